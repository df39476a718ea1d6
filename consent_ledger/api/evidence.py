"""`POST /v1/audit/evidence`: a bundle about one number, for somebody who checks it offline."""

from __future__ import annotations

import time
from functools import cache
from typing import Annotated, Final

import msgspec
from litestar import Controller, Response, post
from litestar.params import JSONBody

from consent.numbers import canonical_number
from consent.privacy import subject_token
from consent.reasons import ReasonCatalogue
from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.models import NumberText
from consent_ledger.api.parts import ApiRequest, config_of, parts_of
from consent_ledger.api.problems import Problem
from consent_ledger.evidence_bundle import EvidenceBundler, EvidenceQuestion
from consent_ledger.evidence_period import period_of
from consent_ledger.evidence_scope import EvidenceScope
from consent_ledger.rule_files import load_rulebook
from projections.clickhouse import Store
from projections.log_folder import LogFolder

_ZIP: Final = "application/zip"

TimeText = Annotated[
    str,
    msgspec.Meta(
        min_length=1, max_length=40, description="A day, as 2026-11-01, or RFC 3339 with its zone"
    ),
]


class EvidenceRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Whose story, and which period of it: all of it without `from`, up to now without `to`.

    `zone` is the zone of days, and of the times on the page.
    """

    number: NumberText
    begin: TimeText | None = msgspec.field(name="from", default=None)
    end: TimeText | None = msgspec.field(name="to", default=None)
    zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"


@cache
def _reasons() -> ReasonCatalogue:
    return load_rulebook(None).reasons


class EvidenceController(Controller):
    """Evidence for others."""

    path = "/v1/audit"
    tags = ("audit",)
    guards = (signed_in,)

    @post("/evidence", summary="A number's story with its proofs", status_code=200, media_type=_ZIP)
    async def evidence(
        self, request: ApiRequest, data: JSONBody[EvidenceRequest], why: Why = None
    ) -> Response[bytes]:
        """A .zip with the story to read, and proofs that an auditor checks without this ledger.

        It holds personal data. What no checkpoint covers yet is left out, and said. A key that is
        bound to sellers gets their events, and those that are for every seller. Who asked, and
        why (`Access-Reason`), is kept for ever; nothing is answered if that can't be.
        """
        request.user.require("auditor", "privacy")
        signing = config_of(request).evidence
        if signing is None:
            raise Problem("not-found", "this process has no log key, with which bundles are signed")
        parts, now = parts_of(request), time.time_ns() // 1000
        number = canonical_number(data.number, parts.region_default)
        period = period_of(data.begin, data.end, data.zone, now)
        scope = EvidenceScope(period.begin, period.end, request.user.seller_ids)
        subject = subject_token(signing.history_key, number)
        asked = {"from": data.begin or "", "to": data.end or ""}
        access_id = await parts.accesses.record(request.user, "evidence", why, subject, asked)
        question = EvidenceQuestion(number, scope, now, data.zone, period.begin_given)

        def make(store: Store) -> bytes:
            folder = LogFolder(signing.folder)
            bundler = EvidenceBundler(store, folder, signing.key, signing.history_key, _reasons())
            return bundler.make(question).data

        headers = {
            "content-disposition": f'attachment; filename="evidence-{access_id}.zip"',
            "cache-control": "no-store",
        }
        return Response(await parts.store.run(make), media_type=_ZIP, headers=headers)
