"""Writes down who looks, for every door that shows what history holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from litestar.params import HeaderParameter

from consent.accesses import REASON_FIELD, Access, checked_reason
from consent_ledger.api.authentication import Principal
from projections.access_log import record_access
from projections.clickhouse_async import AsyncStore

Why = Annotated[
    str | None,
    HeaderParameter(
        name=REASON_FIELD,
        description="Why you look: a case or a request, never a person. Kept for ever.",
    ),
]
"""The reason of an access, as a parameter of a handler; its default is None."""


class AccessRecorder:
    """Records accesses in the store; `reason_required`: nobody is shown anything without one."""

    def __init__(self, store: AsyncStore, reason_required: bool) -> None:
        self._store = store
        self._reason_required = reason_required

    async def record(
        self,
        principal: Principal,
        what: str,
        why: str | None,
        subject: bytes | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> str:
        """Keep that this principal looks, and return the access's id; call it before reading.

        Rejected for a reason that is missing or names a person. Retryable if it can't be kept:
        then nothing may be answered.
        """
        reason = checked_reason(_decoded(why), self._reason_required)
        roles = ",".join(sorted(principal.roles))
        access = Access(principal.name, roles, what, reason, subject, parameters or {})
        return await self._store.run(record_access, access)


def _decoded(header: str | None) -> str | None:
    """Headers come as Latin-1; what was sent as UTF-8 is read as such."""
    try:
        return None if header is None else header.encode("latin-1").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return header
