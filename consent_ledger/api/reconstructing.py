"""`POST /v1/audit/reconstruct`: what was known of a number, and why a call was decided so."""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import JSONBody

from consent.errors import Rejected
from consent.numbers import canonical_number
from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.parts import ApiRequest, parts_of
from consent_ledger.api.reconstruct_models import (
    ReconstructAnswer,
    ReconstructRequest,
    ReplayAnswer,
)
from consent_ledger.api.reconstructions import moment_of


class ReconstructController(Controller):
    """Questions about the past."""

    path = "/v1/audit"
    tags = ("audit",)
    guards = (signed_in,)

    @post("/reconstruct", summary="A number, or a decision, at a past moment", status_code=200)
    async def reconstruct(
        self, request: ApiRequest, data: JSONBody[ReconstructRequest], why: Why = None
    ) -> ReconstructAnswer | ReplayAnswer:
        """What was true of a number at a moment, as known at a moment, by the rules active then.

        With `decision_id`: a recorded decision made again from exactly the facts that it names.
        Nothing is recorded but who looked, and why. A key that is bound to sellers sees entries
        of its sellers, and those that are for every seller or of none.
        """
        request.user.require("auditor")
        parts = parts_of(request)
        if data.decision_id is not None:
            if data.number is not None or data.at is not None:
                raise Rejected("AMBIGUOUS", "decision_id", "", "give it alone, or number and at")
            named = {"decision_id": data.decision_id}
            await parts.accesses.record(request.user, "reconstruct", why, None, named)
            return await parts.reconstructions.decision(data.decision_id, request.user)
        if data.number is None:
            raise Rejected("MISSING", "number", "", "give number and at, or decision_id")
        number = canonical_number(data.number, parts.region_default)
        if data.call is not None:
            request.user.for_seller(data.call.seller_id)
        moment_of(data)
        subject = parts.reconstructions.subject_of(number)
        await parts.accesses.record(request.user, "reconstruct", why, subject)
        return await parts.reconstructions.at_moment(number, data, request.user)
