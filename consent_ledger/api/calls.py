"""`POST /v1/calls/check` and `/check-batch`: may these numbers be called now?"""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import JSONBody

from consent_ledger.api.authentication import signed_in
from consent_ledger.api.checking import outcomes_of
from consent_ledger.api.models import (
    CheckAnswer,
    CheckBatchAnswer,
    CheckBatchRequest,
    CheckRequest,
)
from consent_ledger.api.parts import ApiRequest, config_of, parts_of
from consent_ledger.api.problems import Problem


class CallsController(Controller):
    """Questions of dialers."""

    path = "/v1/calls"
    tags = ("calls",)
    guards = (signed_in,)

    @post("/check", summary="May this number be called now?", status_code=200)
    async def check(self, request: ApiRequest, data: JSONBody[CheckRequest]) -> CheckAnswer:
        """Allow, deny or unavailable, with the reasons, and how fresh the answer is.

        Only `allow` permits the call. The decision is an event of the ledger: an allow is answered
        once the log has it.
        """
        request.user.require("dialer")
        return await parts_of(request).checker.check(data, request.user)

    @post("/check-batch", summary="Up to 1,000 checks at once", status_code=200)
    async def check_batch(
        self, request: ApiRequest, data: JSONBody[CheckBatchRequest]
    ) -> CheckBatchAnswer:
        """One answer per check, in order; a check that can't be read gets an error of its own."""
        request.user.require("dialer")
        checks_max = config_of(request).checks_per_request_max
        if not data.checks:
            raise Problem("invalid-request", "send at least one check")
        if len(data.checks) > checks_max:
            raise Problem("too-many-items", f"send at most {checks_max} checks in one request")
        results = await parts_of(request).checker.check_many(data.checks, request.user)
        return CheckBatchAnswer(outcomes_of(results))
