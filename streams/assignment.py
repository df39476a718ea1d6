"""What happens between being assigned partitions and reading them.

Takes the place of Faust's table manager, which is the part of Faust that resumes the flow after a
rebalance: there are no tables here, and Faust's own recovery ends for good, without a word, when
one of its steps takes longer than a request time-out, and resumes partitions that were revoked
while it worked.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol, cast

import structlog
from faust.tables import TableManager
from faust.types import TP

from streams.consumer_thread import AssignmentEnded

log = structlog.get_logger(__name__)


class Host(Protocol):
    """What the keeper needs from the app it belongs to."""

    async def announce_assigned(self, partitions: frozenset[TP]) -> None:
        """Lets the handlers prepare for their partitions; may take minutes."""

    def resume(self) -> None:
        """Lets records flow."""


class AssignmentKeeper(TableManager):
    """Prepares the handlers, seeks, then resumes: one task per assignment, ended by the next
    revocation. Runs outside the group's callback, so that a long recovery keeps the membership.
    An error ends the app.
    """

    _preparing: asyncio.Future[None] | None = None

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._first_assignment_done = asyncio.Event()

    async def on_start(self) -> None:
        """There are no tables to wait for."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def wait_until_recovery_completed(self) -> bool:
        """Returns when the first assignment is being read; True if the app stops before."""
        return await self.wait_for_stopped(self._first_assignment_done.wait())

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Nothing is left to do: `abandon` was called before."""

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Called within the group's callback, which must be short: only starts the task."""
        self._preparing = self.add_future(self._prepare(frozenset(assigned)))

    async def abandon(self) -> None:
        """Ends the preparation of an assignment that is being revoked again."""
        if self._preparing is not None:
            self._preparing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._preparing
            self._preparing = None

    async def _prepare(self, partitions: frozenset[TP]) -> None:
        host = cast(Host, self.app)
        try:
            await host.announce_assigned(partitions)
            if partitions:
                await self.app.consumer.perform_seek()
        except AssignmentEnded:
            log.info("assignment_ended_while_seeking")
            return
        # Without an await from the seek to here, a revocation can't come between.
        host.resume()
        self._first_assignment_done.set()

    async def on_stop(self) -> None:
        """Ends the preparation in work, if any."""
        await self.abandon()
        await super().on_stop()
