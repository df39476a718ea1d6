"""`POST /v1/scrub`: which numbers of a list may not be called?"""

from __future__ import annotations

from typing import Final

from litestar import Controller, post
from litestar.response import Stream

from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.parts import ApiRequest, parts_of

MEDIA_TYPE: Final = "application/x-ndjson"


class ScrubController(Controller):
    """Lists of numbers."""

    path = "/v1/scrub"
    tags = ("calls",)
    guards = (signed_in,)

    @post(
        "/",
        summary="Which numbers of a list may not be called?",
        status_code=200,
        media_type=MEDIA_TYPE,
        # The scrubber has a limit of its own.
        request_max_body_size=None,
    )
    async def scrub(self, request: ApiRequest, why: Why = None) -> Stream:
        """A line of JSON for each number, and at the end one about the run, which is recorded.

        The body is lines of text: first the call as JSON, like a check without its number, then a
        number a line. The answer permits no call: it has no permits, and each number must be
        checked when it is dialled. An answer without its last line is not whole.
        """
        request.user.require("dialer")
        lines = await parts_of(request).scrubber.scrub(request.stream(), request.user, why)
        return Stream(lines, media_type=MEDIA_TYPE)
