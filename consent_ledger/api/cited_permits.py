"""What is noticed about the permit that a call cites, when the call is published.

A call that happened is taken in whatever it cites. What looks wrong is told to the publisher at
once, as far as this process knows: permits that it gave itself, and those in the number's state.
The reports, which go by the log, have the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from consent.state import TEST_PREFIX, SubjectState
from consent.state_entries import Attempt
from consent_ledger.api.problems import FieldError
from consent_ledger.permit_issuing import PermitIssuer
from projections.view import SuppressionView

CITING: Final = "CallPlaced"
_FIELD: Final = "permit_id"


class CitedPermits:
    """Looks at calls before they are published; never waits."""

    def __init__(self, permits: PermitIssuer, view: SuppressionView) -> None:
        self._permits = permits
        self._view = view

    def notices(self, fields: dict[str, Any]) -> list[FieldError]:
        """What seems wrong with the permit that a CallPlaced cites; empty if it cites none."""
        permit_id, number = fields["permit_id"], fields["number"]
        if permit_id is None:
            return []
        shown = str(permit_id)
        given = self._permits.given(shown)
        if given is not None and given.number_token != self._permits.token_of(number):
            return [_notice("PERMIT_OTHER_NUMBER", shown, "it was given for another number")]
        seller_id, expires_at = None, None
        if given is not None:
            seller_id, expires_at = given.seller_id, given.expires_at
        else:
            for seller, permit in _permits_of(self._view.look_up(number).state, fields["test"]):
                if permit.permit_id == shown:
                    seller_id, expires_at = seller, permit.permit_expires_at
        if expires_at is None:
            remedy = "no permit of this id is known of this number; is it this ledger's?"
            return [_notice("PERMIT_UNKNOWN", shown, remedy)]
        found = []
        if seller_id != fields["seller_id"]:
            found.append(_notice("PERMIT_OTHER_SELLER", shown, "it was given to another seller"))
        if fields["occurred_at"] >= expires_at:
            found.append(_notice("PERMIT_EXPIRED", shown, "it had run out when the call was made"))
        return found


def _permits_of(state: SubjectState, test: bool) -> Iterator[tuple[str, Attempt]]:
    """Permits in a number's state, with the seller that each was given to."""
    for (seller, _subject), attempts in state.attempts.items():
        if seller.startswith(TEST_PREFIX) == test:
            name = seller.removeprefix(TEST_PREFIX)
            yield from ((name, one) for one in attempts if one.permit_expires_at is not None)


def _notice(reason: str, shown: str, remedy: str) -> FieldError:
    return FieldError(reason, _FIELD, shown, remedy)
