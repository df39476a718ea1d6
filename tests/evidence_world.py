"""A small ledger with a person's whole story, for tests of bundles of evidence."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow

from consent.codec import encode
from consent.contracts import contracts
from consent.decision import Decision
from consent.decision_record import Permit, RecordContext, decision_record
from consent.facts import LogPartition
from consent.instants import parse_instant
from consent.notes import SigningKey
from consent.rulebook import Rulebook
from consent.state import merge
from consent_ledger.evidence_bundle import EvidenceBundle, EvidenceBundler, EvidenceQuestion
from consent_ledger.evidence_scope import EvidenceScope
from consent_ledger.verify_bundle import Files
from projections.clickhouse import Store, StoreParameters
from projections.log_folder import LogFolder
from projections.migration import load_migrations, migrate
from tests.decisions import decided, grants, packaged_rulebook, request, withdrawal
from tests.events import event
from tests.made_ledger import KEYS, LOG_KEY, MadeLedger, MadeRecord

ANNA = "+15125550101"
OTHER = "+15125550102"
FORM = b"<form>I agree that Acme may call +15125550101 with automated calls.</form>"
WORDING = (
    "By ticking this box I agree that Acme Insurance may call me at +1 512 555 0101 with offers,\n"
    "also by automated calls and with a prerecorded voice. I need not agree in order to buy."
)
BEGIN = parse_instant("2026-11-01T00:00:00Z")
END = parse_instant("2026-12-01T00:00:00Z")
MADE_AT = parse_instant("2026-12-02T09:00:00Z")
WITNESS = SigningKey("witness.example/w1", b"w" * 32, kind=4)
_CALLS: dict[str, Any] = {
    "seller_id": "acme",
    "campaign_id": "spring",
    "purpose": "MARKETING",
    "call_mode": "PRERECORDED",
    "dial_mode": "PREDICTIVE",
    "party": "CONSUMER",
    "good_or_service": "car insurance",
    "script_id": "autumn",
    "script_version": "3",
}


class EvidenceWorld:
    """Tells the story, records it, and makes bundles from it."""

    def __init__(self, store: Store, folder: Path) -> None:
        migrate(store, load_migrations(files("projections") / "migrations"))
        self.store = store
        self.ledger = MadeLedger(store, folder, partitions=1)
        self.rulebook: Rulebook = packaged_rulebook()
        self._ends: dict[str, int] = {}
        self._ids = 0

    def say(self, name: str, at: str, **fields: Any) -> str:
        """Record an event a second after it happened, in a block of its own; its id."""
        happened = parse_instant(at)
        given = {"number": ANNA} if contracts().record(name).has_number else {}
        made = event(
            name, **{"event_id": self.new_id(), "occurred_at": happened, **given, **fields}
        )
        self._record(name, [(happened // 1000 + 1_000, made)])
        return str(made["event_id"])

    def say_all(self, name: str, at: str, numbers: list[str], **fields: Any) -> None:
        """The same event of several people in one block."""
        happened = parse_instant(at)
        made = [event(name, occurred_at=happened, number=number, **fields) for number in numbers]
        self._record(name, [(happened // 1000 + 1_000, one) for one in made])

    def decide(self, at: str, withdrawn: bool) -> Decision:
        """Record what `serve` answers to a prerecorded marketing call."""
        instant = parse_instant(at)
        state = grants("PEWC", at=BEGIN - 40 * 86_400_000_000)
        if withdrawn:
            state = merge(state, withdrawal(at=parse_instant("2026-11-20T15:00:00Z")))
        asked = request(**{k: v for k, v in _CALLS.items() if k != "good_or_service"})
        decision = decided(asked, state, at=instant)
        permit = Permit(self.new_id(), instant + 60_000_000, "k1") if decision.allowed else None
        context = RecordContext(
            event_id=self.new_id(),
            occurred_at=instant,
            number=ANNA,
            salt=uuid.UUID(self.new_id()).bytes,
            system="serve",
            partition=0,
            permit=permit,
        )
        record = decision_record(decision, context)
        self._record("DialDecision", [(instant // 1000 + 5, record)])
        return decision

    def tell(self) -> None:
        """The whole story: consent, an allowed call, an opt-out, a denial."""
        digest = self.rulebook.digest
        self._keep_rulebook()
        program = {"seller_id": "acme"}
        self.say(
            "RulebookActivated",
            "2026-09-01T00:00:00Z",
            **program,
            rulebook_version=self.rulebook.version,
            rulebook_digest=digest,
        )
        self.say(
            "ScriptPublished",
            "2026-09-10T08:00:00Z",
            **program,
            script_id="autumn",
            version="3",
            content_sha256=hashlib.sha256(b"Hello, this is Acme.").digest(),
            uri="https://acme.example/scripts/autumn-3.mp3",
            prerecorded=True,
            language="en-US",
            identifies_caller=True,
            offers_opt_out=True,
        )
        self.say(
            "CampaignDeclared",
            "2026-09-11T08:00:00Z",
            **program,
            campaign_id="spring",
            starts_at=parse_instant("2026-09-12T00:00:00Z"),
            seller_name="Acme Insurance Ltd",
            seller_address="1 Example Street, Austin, TX 78701",
            seller_contact="privacy@acme.example",
            policy_url="https://acme.example/privacy",
        )
        self.say("CampaignDeclared", "2026-09-11T09:00:00Z", seller_id="globex", campaign_id="x")
        self._consent()
        self._calls()
        self.checkpoint()

    def _consent(self) -> None:
        self.say(
            "ConsentGranted",
            "2026-09-22T14:30:00Z",
            seller_id="acme",
            consent_kind="PEWC",
            change="GIVEN",
            purposes=["MARKETING", "INFORMATIONAL"],
            modes=["LIVE", "PRERECORDED"],
            party="CONSUMER",
            seller_named=True,
            number_named=True,
            authorises_automated=True,
            not_a_condition=True,
            positive_act=True,
            lawful_basis="CONSENT",
            collection_method="WEB_FORM",
            campaign_id="spring",
            good_or_service="car insurance",
            jurisdiction="US-TX",
            language="en-US",
            notice_id="privacy",
            notice_version="7",
            notice_uri="https://acme.example/privacy/7",
            notice_sha256=hashlib.sha256(b"privacy 7").digest(),
            disclosure_id="tcpa-web",
            disclosure_version="2",
            disclosure_sha256=hashlib.sha256(WORDING.encode()).digest(),
            request_copy_sha256=hashlib.sha256(FORM).digest(),
            recipients=["acme", "dialer-co"],
            storage_location="US",
            retention_period="P5Y",
            withdrawal_methods=["Say STOP", "https://acme.example/stop"],
            evidence=evidence(
                name="Anna <b>Example</b>",
                email="anna@mail.example",
                ip="192.0.2.17",
                user_agent="Mozilla/5.0",
                page_url="https://acme.example/quote",
                wording=WORDING,
                wording_language="en-US",
                request_copy_uri="https://acme.example/copies/17.html",
                signature_method="CHECKBOX",
                signature="ticked",
            ),
        )
        self.say_all(
            "ConsentWithdrawn", "2026-10-02T10:00:00Z", [OTHER, ANNA, OTHER], seller_id="b"
        )

    def _calls(self) -> None:
        self.decide("2026-11-18T16:00:00Z", withdrawn=False)
        call = {**_CALLS, "call_id": "c-1"}
        self.say("CallPlaced", "2026-11-18T16:00:02Z", **call, permit_id=self.new_id())
        self.say(
            "CallEnded",
            "2026-11-18T16:01:10Z",
            **call,
            outcome="ANSWERED_LIVE",
            duration_seconds=62,
            evidence=evidence(recording_uri="https://acme.example/rec/c-1"),
        )
        self.checkpoint()
        self.say(
            "ConsentWithdrawn",
            "2026-11-20T15:00:00Z",
            seller_id="acme",
            manner="KEYWORD",
            keyword="STOP",
            evidence=evidence(wording="STOP"),
        )
        self.decide("2026-11-23T17:00:00Z", withdrawn=True)
        self.say_all("DncAdded", "2026-12-05T10:00:00Z", [ANNA], seller_id="acme")

    def checkpoint(self) -> None:
        """Sign what was recorded, and have it cosigned."""
        self.ledger.checkpoint(cosign=WITNESS)

    def bundler(self) -> EvidenceBundler:
        """What makes bundles from this ledger."""
        return EvidenceBundler(
            self.store,
            LogFolder(self.ledger.folder),
            LOG_KEY,
            KEYS.history,
            self.rulebook.reasons,
        )

    def bundle(self, **changes: Any) -> EvidenceBundle:
        """The bundle about Anna and November."""
        scope = EvidenceScope(BEGIN, END)
        asked = {"number": ANNA, "scope": scope, "made_at": MADE_AT, "zone": "America/Chicago"}
        return self.bundler().make(EvidenceQuestion(**{**asked, **changes}))

    def new_id(self) -> str:
        """An id that no other event has."""
        self._ids += 1
        return str(uuid.UUID(int=(0x5EED << 64) + self._ids, version=4))

    def _record(self, name: str, said: list[tuple[int, dict[str, Any]]]) -> None:
        topic = contracts().record(name).topic
        first = self._ends.get(topic, 0)
        records = [
            MadeRecord(first + n, at, _key(fields), encode(name, fields))
            for n, (at, fields) in enumerate(said)
        ]
        self._ends[topic] = first + len(records)
        log_id = topic.encode()[:16].ljust(16, b".")
        self.ledger.record(LogPartition(log_id, topic, 0), records)

    def _keep_rulebook(self) -> None:
        row = {
            "rulebook_digest": [self.rulebook.digest],
            "path": ["rulebook.json"],
            "content": [self.rulebook.content],
        }
        self.store.insert_arrow("rulebooks", pyarrow.table(row), "rulebook")


@contextlib.contextmanager
def told_world(url: str, database: str, folder: Path) -> Iterator[EvidenceWorld]:
    """A ledger in which the story was told, in a database of its own, which goes at the end."""
    store = Store.connect(StoreParameters(url=url, database=database))
    told = EvidenceWorld(store, folder / "log")
    told.tell()
    yield told
    store.command(f"DROP DATABASE {database} SYNC", use_database=False)
    store.close()


def opened(bundle: bytes) -> Files:
    """What is in a bundle, by name."""
    with zipfile.ZipFile(BytesIO(bundle)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def evidence(**given: Any) -> dict[str, Any]:
    """Evidence with these elements and no others."""
    schema = next(
        one["type"][1]
        for one in contracts().record("ConsentGranted").parsed["fields"]
        if one["name"] == "evidence"
    )
    defaults = {one["name"]: one.get("default") for one in schema["fields"]}
    assert set(given) <= set(defaults)
    return {**defaults, **given}


def _key(fields: dict[str, Any]) -> bytes:
    return str(fields.get("number", fields["seller_id"])).encode()
