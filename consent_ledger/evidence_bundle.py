"""Makes a bundle of evidence about one number: a .zip that an auditor checks offline.

Everything in it is a function of what store and log hold, of the question and of the time at which
it is asked. It is checked as an auditor would before it is handed out, so that no bundle leaves
that would fail. Blocks; does no writing, and leaves writing down who looked to whoever asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as resources
from typing import Any, Final

from consent.errors import Rejected
from consent.instants import instant_text
from consent.log_entries import decode_entry
from consent.notes import Note, SigningKey
from consent.privacy import subject_token
from consent.reasons import ReasonCatalogue
from consent.reconstruction import fold
from consent.state_words import state_words
from consent_ledger.evidence_page import story_page
from consent_ledger.evidence_receipts import consent_record, kantara_receipt
from consent_ledger.evidence_scope import EvidenceScope, named_facts, rulebook_digests
from consent_ledger.evidence_standing import standing_of
from consent_ledger.evidence_story import GoneEvidence, ToldFact, schemas_of, told_events, wordings
from consent_ledger.receipt_events import campaign_of, lifecycle_of
from consent_ledger.verify_bundle import (
    FORMAT,
    KEY,
    LIMITS,
    MANIFEST,
    STORY,
    Files,
    check,
    parse_key,
    zip_bytes,
)
from projections.clickhouse import Store
from projections.evidence_rows import EvidenceRows, HeldEvidence, Place, StoredFact
from projections.inclusion import InclusionProver, Inclusions
from projections.log_folder import LogFolder

FACTS_MAX: Final = 50_000
"""A bundle about more would be no use to anybody who reads it."""

_README: Final = """Evidence from a consent ledger

Open story.html in any browser: it tells the story, and needs nothing else.

To check that nothing in here was altered since the ledger sealed it:

    pip install cryptography
    python verify_bundle.py BUNDLE.zip --key KEY

Take verify_bundle.py from a release of the ledger, and KEY from where the ledger's
operator publishes it (`consent-ledger keys log`): a bundle can't vouch for itself.
{limits}

  story.html, story.json   what happened, in words and as data
  facts.json               the sealed bytes of every fact, and its proof
  evidence.json            what the facts commit to: number, salt, evidence
  schemas.json             how to read facts.json and evidence.json (Avro)
  rulebooks/               the rules by which calls were judged, by SHA-256
  receipts/                consent receipts: Kantara v1.1, ISO/IEC TS 27560
  checkpoints/             the log's signed checkpoints, with cosignatures
  copies/                  attached copies of what was shown, by SHA-256
  MANIFEST.txt             SHA-256 of every file, signed with the log's key
"""


@dataclass(frozen=True, slots=True)
class EvidenceQuestion:
    """What is asked: a canonical number, a scope, the zone of the times on the page.

    `copies` are attached: documents whose SHA-256 a fact states. `begin_given` False: the period
    has no beginning.
    """

    number: str = field(repr=False)
    scope: EvidenceScope
    made_at: int
    zone: str = "UTC"
    begin_given: bool = True
    copies: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EvidenceBundle:
    """The archive, and what can be said of it without opening it."""

    data: bytes = field(repr=False)
    facts: int
    unsealed: int
    checkpoint_size: int
    checks: tuple[str, ...]


class EvidenceBundler:
    """Makes bundles from one store and one log. `told` hears facts proved, of how many."""

    def __init__(
        self,
        store: Store,
        folder: LogFolder,
        key: SigningKey,
        history_key: bytes,
        reasons: ReasonCatalogue,
    ) -> None:
        self._rows = EvidenceRows(store)
        self._prover = InclusionProver(store, folder, key.verifier)
        self._key = key
        self._history_key = history_key
        self._reasons = reasons

    def make(
        self, asked: EvidenceQuestion, told: Callable[[int, int], None] = lambda done, total: None
    ) -> EvidenceBundle:
        """The bundle; Rejected for a copy that no fact names, or if there are too many facts.

        NothingSealed before the first checkpoint, Corrupt where store and log disagree.
        """
        subject = subject_token(self._history_key, asked.number)
        facts = [one for one in self._rows.facts_of(subject) if asked.scope.covers(one.known)]
        around = named_facts(facts, self._rows.around())
        if len(facts) + len(around) > FACTS_MAX:
            remedy = f"ask for a shorter period: at most {FACTS_MAX:,} facts"
            raise Rejected("TOO_MANY_FACTS", "from", str(len(facts)), remedy)
        own = {one.place for one in facts}
        chosen = sorted([*facts, *around], key=lambda one: one.known.order)
        proved = self._prover.prove(
            (one.known.position for one in chosen), lambda done: told(done, len(chosen))
        )
        held = self._rows.evidence_of(subject)
        gone = GoneEvidence(self._rows.expired_of(subject), self._rows.erased(subject))
        sealed = [
            _told(one, held, gone) if one.place in own else ToldFact(one, own=False)
            for one in chosen
            if one.known.position in proved.proofs
        ]
        return self._bundle(asked, subject, sealed, proved)

    def _bundle(
        self,
        asked: EvidenceQuestion,
        subject: bytes,
        sealed: Sequence[ToldFact],
        proved: Inclusions,
    ) -> EvidenceBundle:
        stored = [one.stored for one in sealed]
        contents = self._rows.rulebooks(rulebook_digests(stored))
        made: Files = {
            f"rulebooks/{digest.hex()}.json": content for digest, content in contents.items()
        }
        story = self._story(asked, subject, sealed, proved, made)
        made |= _attached(asked.copies, story)
        made |= _receipts(sealed, subject)
        made |= {
            f"checkpoints/{size}.txt": one.note.encode() for size, one in proved.checkpoints.items()
        }
        notes = {str(size): one.note for size, one in sorted(proved.checkpoints.items())}
        made |= {
            STORY: _json(story),
            "story.html": story_page(story, notes).encode(),
            "facts.json": _json(_proofs(stored, proved)),
            "evidence.json": _json(_evidence(sealed)),
            "schemas.json": _json(schemas_of(stored)),
            "README.txt": _README.format(limits=LIMITS).encode(),
            "verify_bundle.py": _verifier(),
            KEY: f"{self._key.verifier.encoded}\n".encode(),
        }
        made[MANIFEST] = self._manifest(made)
        checks = check(made, parse_key(self._key.verifier.encoded), [])
        return EvidenceBundle(
            data=zip_bytes(made),
            facts=len(sealed),
            unsealed=len(proved.unsealed),
            checkpoint_size=proved.newest.checkpoint.size,
            checks=tuple(checks),
        )

    def _story(
        self,
        asked: EvidenceQuestion,
        subject: bytes,
        sealed: Sequence[ToldFact],
        proved: Inclusions,
        rulebooks: Files,
    ) -> dict[str, Any]:
        events = told_events(sealed, asked.scope, rulebooks)
        for event, one in zip(events, sealed, strict=True):
            event["proof"] = _way(one.stored, proved)
            event["evidence_held"] = one.evidence is not None
            event["evidence_gone"] = one.gone
            reason = (event["fields"] or {}).get("reason") if event["rules"] else None
            event["reason_text"] = self._reasons.text(reason) if reason else None
        checkpoint = proved.newest.checkpoint
        own = [(number, one.stored.known) for number, one in enumerate(sealed) if one.own]
        copies = {hashlib.sha256(data).hexdigest(): _copy_name(data) for data in asked.copies}
        return {
            "format": FORMAT,
            "number": asked.number,
            "subject": subject.hex(),
            "period": {
                "from": instant_text(asked.scope.begin) if asked.begin_given else None,
                "to": instant_text(asked.scope.end),
            },
            "sellers": None if asked.scope.seller_ids is None else sorted(asked.scope.seller_ids),
            "zone": asked.zone,
            "made_at": instant_text(asked.made_at),
            "key": self._key.verifier.encoded,
            "checkpoint": {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": base64.b64encode(checkpoint.root).decode(),
            },
            "not_sealed_yet": len(proved.unsealed),
            "limits": _limits(asked, len(proved.unsealed)),
            "standing": standing_of(own, asked.scope.end),
            "state": state_words(fold(fact for _, fact in own), asked.scope.seller_ids),
            "events": events,
            "wording": wordings(events, copies),
            "rulebooks": _rulebooks(sealed, rulebooks),
        }

    def _manifest(self, made: Mapping[str, bytes]) -> bytes:
        lines = [f"{hashlib.sha256(made[name]).hexdigest()}  {name}" for name in sorted(made)]
        # No checkpoint can read so: its second line is a number.
        text = "\n".join((FORMAT, f"log {self._key.name}", *lines, ""))
        return Note(text, (self._key.signature(text),)).encoded.encode()


def _told(one: StoredFact, held: Mapping[Place, HeldEvidence], gone: GoneEvidence) -> ToldFact:
    evidence = held.get(one.place)
    # A record that could not be read has nothing that could have been taken out.
    taken_out = evidence is None and one.known.fields is not None
    return ToldFact(one, True, evidence, gone.why(one.place) if taken_out else None)


def _way(one: StoredFact, proved: Inclusions) -> dict[str, Any]:
    """Where a fact is, for a reader."""
    proof = proved.proofs[one.known.position]
    entry = proved.entries[proof.entry]
    _, header = decode_entry(entry.entry)
    return {
        "leaf": proof.leaf,
        "entry": entry.index,
        "offset_first": header["offset_first"],
        "offset_last": header["offset_last"],
        "checkpoints": sorted(entry.proofs),
    }


def _proofs(facts: Iterable[StoredFact], proved: Inclusions) -> dict[str, Any]:
    return {
        "blocks": [
            {
                "entry": _base64(one.entry),
                "index": one.index,
                "proofs": {str(size): [*map(_base64, path)] for size, path in one.proofs.items()},
            }
            for one in proved.entries
        ],
        "facts": [
            {
                "fact": _base64(one.data),
                "block": proved.proofs[one.known.position].entry,
                "leaf": proved.proofs[one.known.position].leaf,
                "path": [*map(_base64, proved.proofs[one.known.position].path)],
            }
            for one in facts
        ],
    }


def _evidence(sealed: Sequence[ToldFact]) -> dict[str, Any]:
    return {
        str(number): {
            "number": one.evidence.number,
            "salt": one.evidence.salt.hex(),
            "evidence": None if one.evidence.evidence is None else _base64(one.evidence.evidence),
        }
        for number, one in enumerate(sealed)
        if one.evidence is not None
    }


def _receipts(sealed: Sequence[ToldFact], subject: bytes) -> Files:
    """Both receipts of every grant."""
    known = [one.stored.known for one in sealed]
    made: Files = {}
    for fact in known:
        if fact.name != "ConsentGranted" or fact.fields is None:
            continue
        grant, campaign = fact.fields, campaign_of(fact, known)
        principal, name = subject.hex(), f"{fact.position.offset}-{fact.event_id}"
        record = consent_record(grant, principal, campaign, lifecycle_of(fact, known))
        made[f"receipts/{name}.kantara.json"] = _json(kantara_receipt(grant, principal, campaign))
        made[f"receipts/{name}.iso-27560.jsonld"] = _json(record)
    return made


def _attached(copies: Iterable[bytes], story: Mapping[str, Any]) -> Files:
    stated = json.dumps([event["fields"] for event in story["events"]])
    made = {}
    for data in copies:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in stated:
            remedy = "attach the very bytes whose SHA-256 an event of the number states"
            raise Rejected("COPY_UNKNOWN", "copy", digest, remedy)
        made[_copy_name(data)] = data
    return made


def _copy_name(data: bytes) -> str:
    return f"copies/{hashlib.sha256(data).hexdigest()}"


def _rulebooks(sealed: Sequence[ToldFact], kept: Files) -> list[dict[str, Any]]:
    versions = {
        one.stored.known.fields["rulebook_digest"]: one.stored.known.fields["rulebook_version"]
        for one in sealed
        if one.stored.known.name == "RulebookActivated" and one.stored.known.fields is not None
    }
    found = []
    for digest in sorted(rulebook_digests(one.stored for one in sealed)):
        name = f"rulebooks/{digest.hex()}.json"
        file = name if name in kept else None
        found.append({"digest": digest.hex(), "version": versions.get(digest), "file": file})
    return found


def _limits(asked: EvidenceQuestion, unsealed: int) -> list[str]:
    """What the bundle does not show, in words for its reader."""
    told = [
        "This bundle proves inclusion: that what it tells was recorded then, and was not altered "
        "since. It does not prove completeness: whether something was left out can only be checked "
        "at the ledger's store, with consent-ledger verify.",
        "Sentences in plain words, receipts and this page are the ledger's own, signed by it. The "
        "facts beside them are what was sealed.",
        "Of calls and decisions those of the period are told, of everything else also what came "
        "before. Rehearsals, and what is known of other numbers of the same person, are left out.",
    ]
    if asked.scope.seller_ids is not None:
        sellers = ", ".join(sorted(asked.scope.seller_ids))
        told.append(f"It is limited to {sellers}, and to what is for every seller.")
    if unsealed:
        told.append(
            f"{unsealed:,} records were so new that no checkpoint covered them yet; they are left "
            "out. A bundle that is made a minute later has them."
        )
    return told


def _verifier() -> bytes:
    return resources("consent_ledger").joinpath("verify_bundle.py").read_bytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
