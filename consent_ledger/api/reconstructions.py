"""Past moments for requests: read in the store's threads, told in the form of answers."""

from __future__ import annotations

from consent.errors import Rejected
from consent.instants import parse_instant
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent_ledger.api.authentication import Principal
from consent_ledger.api.reconstruct_answers import later_answer, reconstruct_answer, replay_answer
from consent_ledger.api.reconstruct_models import (
    ReconstructAnswer,
    ReconstructRequest,
    ReplayAnswer,
)
from consent_ledger.reconstruction import Moment, Reconstructor
from projections.clickhouse import Store
from projections.clickhouse_async import AsyncStore
from projections.past import Past


class Reconstructions:
    """Reads past moments from the store for requests on an event loop, in the store's threads."""

    def __init__(
        self,
        store: AsyncStore,
        history_key: bytes,
        release: Rulebook,
        profile: str,
        party_numbers_max: int,
    ) -> None:
        self._store = store
        self._history_key = history_key
        self._release = release
        self._profile = profile
        self._party_numbers_max = party_numbers_max
        self._made: Reconstructor | None = None

    def subject_of(self, number: str) -> bytes:
        """The token of a canonical number in history."""
        return subject_token(self._history_key, number)

    async def at_moment(
        self, number: str, asked: ReconstructRequest, principal: Principal
    ) -> ReconstructAnswer:
        """A canonical number at a moment; Rejected for a time that is none."""
        moment, later = moment_of(asked)
        call, explain, sellers = asked.call, asked.explain, principal.seller_ids

        def read(store: Store) -> ReconstructAnswer:
            made = self._reconstructor(store)
            if later is None:
                return reconstruct_answer(made.at_moment(number, moment, call), explain, sellers)
            return later_answer(made.difference(number, moment, later, call), explain, sellers)

        return await self._store.run(read)

    async def decision(self, event_id: str, principal: Principal) -> ReplayAnswer:
        """A recorded decision made again; Rejected for one that is unknown, or not theirs."""

        def read(store: Store) -> ReplayAnswer:
            return replay_answer(self._reconstructor(store).decision(event_id))

        answer = await self._store.run(read)
        if principal.seller_ids is not None and answer.seller_id not in principal.seller_ids:
            raise Rejected("NO_DECISION", "decision_id", event_id[:40], "give one of your seller's")
        return answer

    def _reconstructor(self, store: Store) -> Reconstructor:
        """One for all requests: rulebooks of the past are compiled once."""
        if self._made is None:
            self._made = Reconstructor(
                Past(store),
                self._history_key,
                self._release,
                self._profile,
                self._party_numbers_max,
            )
        return self._made


def moment_of(asked: ReconstructRequest) -> tuple[Moment, int | None]:
    """The two times, and a later one to look from; Rejected for a text that is no time."""
    if asked.at is None:
        raise Rejected("MISSING", "at", "", "give the moment that you ask about, in RFC 3339")
    at = instant_given(asked.at, "at")
    known_at = at if asked.known_at is None else instant_given(asked.known_at, "known_at")
    later = None if asked.difference is None else instant_given(asked.difference, "difference")
    if later is not None and later < known_at:
        remedy = "give a time after known_at"
        raise Rejected("NOT_LATER", "difference", asked.difference or "", remedy)
    return Moment(at, known_at), later


def instant_given(text: str, field: str) -> int:
    """An RFC 3339 time; Rejected, naming the field, if it is none."""
    try:
        return parse_instant(text)
    except ValueError:
        remedy = "write it with its zone, e.g. 2026-11-24T15:00:00Z"
        raise Rejected("INVALID_TIME", field, text[:40], remedy) from None
