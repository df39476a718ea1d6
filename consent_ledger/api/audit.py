"""`POST /v1/audit/...`: what an auditor asks about one number, which stands in the body only."""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import JSONBody

from consent.numbers import canonical_number
from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.models import TimelineAnswer, TimelineRequest
from consent_ledger.api.parts import ApiRequest, parts_of
from consent_ledger.api.timeline import TimelineQuery


class AuditController(Controller):
    """Questions of auditors."""

    path = "/v1/audit"
    tags = ("audit",)
    guards = (signed_in,)

    @post("/timeline", summary="All events of a number, in order", status_code=200)
    async def timeline(
        self, request: ApiRequest, data: JSONBody[TimelineRequest], why: Why = None
    ) -> TimelineAnswer:
        """Every event and decision that history holds of a number, oldest first, in plain words.

        Holds what was recorded when it was asked; an event shows up about a second after it was
        accepted. Pages of `entries_max`: give `next` as `after` for the following one. A key that
        is bound to sellers sees their events, and those that are for every seller. Who looked,
        and why (`Access-Reason`), is kept for ever; nothing is answered if that can't be.
        """
        request.user.require("auditor", "privacy")
        parts = parts_of(request)
        number = canonical_number(data.number, parts.region_default)
        query = TimelineQuery(
            number, data.include_test, data.entries_max, data.after, request.user.seller_ids
        )
        subject = parts.timelines.subject_of(number)
        await parts.accesses.record(request.user, "timeline", why, subject)
        return await parts.timelines.read(query)
