"""What surrounds a call that is checked: counts of its campaign, program and calendar.

They are part of the answer: as long as they are not loaded, or too old to be relied on, there is
none. A campaign's counts are as old as the oldest partition of the projection that counts them.
"""

from __future__ import annotations

import time
from typing import Final

from consent.call import CallRequest, Surroundings
from consent.programs import ProgramQuestion
from consent.reasons import VIEW_STALE, VIEW_UNLOADED
from consent.state import TEST_PREFIX
from consent.tallies import CampaignId
from projections.surroundings import SurroundingsView
from projections.view import SuppressionView

_ASK_AGAIN_S: Final = 0.1


class CallSurroundings:
    """Looks up what decides about a call beside its number; look-ups don't wait."""

    def __init__(
        self, view: SuppressionView, surroundings: SurroundingsView, max_age_ms: int
    ) -> None:
        self._view = view
        self._surroundings = surroundings
        self._max_age_us = max_age_ms * 1_000
        self._counted_to = 0
        self._asked_at = -_ASK_AGAIN_S

    def unusable(self, call: CallRequest, at: int) -> str | None:
        """Why what surrounds the call can't be relied on at an instant, None if it can."""
        if not self._surroundings.loaded:
            return VIEW_UNLOADED
        if self._surroundings.stale(at):
            return VIEW_STALE
        if call.campaign_id is not None and at - self._counts_true_at() > self._max_age_us:
            return VIEW_STALE
        return None

    def around(self, call: CallRequest, at: int) -> Surroundings:
        """Campaign, program and calendar for a call; the caller adds what it knows beside them."""
        seller_id = TEST_PREFIX + call.seller_id if call.test else call.seller_id
        campaign_id = call.campaign_id
        campaign = None if campaign_id is None else CampaignId(seller_id, campaign_id)
        question = ProgramQuestion(seller_id, campaign_id, call.states, call.caller_id_number)
        return Surroundings(
            campaign=self._surroundings.campaign(campaign, at),
            program=self._surroundings.program(question),
            calendar=self._surroundings.calendar(call.states, at, test=call.test),
        )

    def _counts_true_at(self) -> int:
        """Up to when every partition's calls are counted; 0 if that is not known of one."""
        now = time.monotonic()
        if now - self._asked_at >= _ASK_AGAIN_S:
            self._asked_at = now
            self._counted_to = min(status.true_at or 0 for status in self._view.status())
        return self._counted_to
