"""One call at one instant: what the number's state and its surroundings say about it.

Checks of every kind ask their questions here, so that seller, purpose, mode and subject are
matched in one place. Restrictions count whatever their date (one that is dated ahead by a clock
that runs fast still stops the call); permissions count from their time on, and until they end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consent.call import (
    UNKNOWN,
    Calendar,
    CallRequest,
    Campaign,
    Registries,
    candidate_states,
    candidate_zones,
)
from consent.state import SubjectState, attribute_values
from consent.state_entries import (
    ANY,
    TEST_PREFIX,
    DncEntry,
    DncKey,
    Grant,
    GrantKey,
    Refusal,
    Withdrawal,
    WithdrawalKey,
)
from consent.zones import local_day

NEVER: Final = -(1 << 62)
"""Before every instant: the time of a withdrawal that was never made."""

WithdrawalScope = Literal["request", "any_mode", "any_call"]


@dataclass(frozen=True, slots=True)
class Geography:
    """What a rulebook says about places: countries with law of their own, and second names."""

    lawful_countries: frozenset[str]
    aliases: Mapping[str, str]


class CallFacts:
    """A request, a state and an instant. Not changed once made; nothing is read from outside."""

    __slots__ = (
        "at",
        "calendar",
        "campaign",
        "counties",
        "everyone",
        "geography",
        "lines",
        "mode",
        "parties",
        "profile",
        "purpose",
        "registries",
        "request",
        "revoked_at",
        "seller",
        "sellers",
        "state",
        "states",
        "subject",
        "zones",
    )

    def __init__(
        self,
        request: CallRequest,
        state: SubjectState,
        surroundings: tuple[Registries, Calendar, Campaign],
        geography: Geography,
        at: int,
    ) -> None:
        self.request = request
        self.state = state
        self.registries, self.calendar, self.campaign = surroundings
        self.geography = geography
        self.at = at
        prefix = TEST_PREFIX if request.test else ""
        self.seller = prefix + request.seller_id
        self.everyone = prefix + ANY
        self.sellers = (self.seller, self.everyone)
        self.purpose = request.purpose
        self.mode = request.call_mode
        self.subject = request.subject_matter
        self.profile = "STRICT" if request.profile == UNKNOWN else request.profile
        self._resolve(prefix)
        self.revoked_at = self._revoked_at()

    def _resolve(self, prefix: str) -> None:
        """Candidates and traits: what the request states and what the number's state recorded."""
        request, state = self.request, self.state
        if not state.attributes:
            self.states = candidate_states(request.states, self.geography.aliases)
            self.zones = tuple(sorted(set(request.zones)))
            self.counties = tuple(sorted(set(request.counties)))
            self.lines: tuple[str, ...] = (UNKNOWN,)
            self.parties: tuple[str, ...] = () if request.party == UNKNOWN else (request.party,)
            return
        recorded = attribute_values(state, prefix + "states")
        self.states = candidate_states((*request.states, *recorded), self.geography.aliases)
        self.zones = candidate_zones((*request.zones, *attribute_values(state, prefix + "zones")))
        counties = attribute_values(state, prefix + "counties")
        self.counties = tuple(sorted({*request.counties, *counties}))
        self.lines = attribute_values(state, prefix + "line_type") or (UNKNOWN,)
        parties = {request.party, *attribute_values(state, prefix + "party")} - {UNKNOWN}
        self.parties = tuple(sorted(parties))

    def _revoked_at(self) -> int:
        """Time of the newest withdrawal or erasure that covers this call; NEVER if none does."""
        erased = self.state.erased
        newest = NEVER if erased is None else erased.cutoff_at
        if self.state.withdrawals:
            for _key, withdrawal in self.withdrawals("request"):
                newest = max(newest, withdrawal.at)
        return newest

    def withdrawals(self, scope: WithdrawalScope) -> Iterator[tuple[WithdrawalKey, Withdrawal]]:
        """Withdrawals that cover the call, or that would if the named parts did not matter.

        `any_mode` leaves out call mode and subject, `any_call` the purpose too.
        """
        for key, withdrawal in self.state.withdrawals.items():
            seller, purpose, mode, subject = key
            if seller not in self.sellers:
                continue
            if scope != "any_call" and not _named(purpose, self.purpose):
                continue
            if scope == "request" and not (_named(mode, self.mode) and self.about(subject)):
                continue
            yield key, withdrawal

    def about(self, subject: str) -> bool:
        """True if a restriction on this subject covers the call; an unstated subject is covered."""
        return subject in (ANY, "") or self.subject is None or subject == self.subject

    def in_scope(self, key: GrantKey, grant: Grant) -> bool:
        """True if a grant is for this seller, purpose, mode and subject."""
        seller, purpose, mode, _kind = key
        return (
            seller == self.seller
            and purpose == self.purpose
            and mode == self.mode
            and purpose != UNKNOWN
            and mode != UNKNOWN
            and (not grant.subject_matters or self.subject in grant.subject_matters)
        )

    def agreed_since(self, since: int, kinds: frozenset[str]) -> tuple[GrantKey, Grant] | None:
        """The newest grant of these kinds that covers the call now and is newer than `since`."""
        newest: tuple[GrantKey, Grant] | None = None
        for key, grant in self.state.grants.items():
            if key[3] in kinds and since < grant.at <= self.at and self.in_scope(key, grant):
                if grant.expires_at is not None and grant.expires_at <= self.at:
                    continue
                if newest is None or (grant.at, grant.event_id) > (
                    newest[1].at,
                    newest[1].event_id,
                ):
                    newest = (key, grant)
        return newest

    def is_revoked(self, key: GrantKey, grant: Grant) -> bool:
        """True if a withdrawal names what a grant is for, whatever this call is about."""
        return any(
            scope[0] in (key[0], self.everyone)
            and _named(scope[1], key[1])
            and _named(scope[2], key[2])
            and scope[3] in (ANY, "")
            and grant.at <= withdrawal.at
            for scope, withdrawal in self.state.withdrawals.items()
        )

    def same_world(self, seller: str) -> bool:
        """True if a seller id belongs to rehearsals or to reality as the request does."""
        return seller.startswith(TEST_PREFIX) == self.request.test

    def listings(self, kinds: frozenset[str]) -> Iterator[tuple[DncKey, DncEntry]]:
        """Entries of these list kinds that stand against this seller.

        A removal counts from its time on: until then the number is still listed.
        """
        for key, entry in self.state.dnc.items():
            if key[0] in self.sellers and key[1] in kinds and (entry.listed or entry.at > self.at):
                yield key, entry

    def refusals(self, per_subject: bool) -> Iterator[tuple[str, Refusal]]:
        """Refusals to this seller, of this call's subject or of any."""
        for (seller, subject), refusal in self.state.refusals.items():
            if seller in self.sellers and (not per_subject or self.about(subject)):
                yield subject, refusal

    def has_ongoing_contract(self) -> bool:
        """True if a contract with the seller runs and is stated to be related to the subject."""
        if self.subject is None:
            return False
        last_day = max((local_day(self.at, name) for name in self.zones), default=None)
        for (seller, kind, _id), contract in self.state.relationships.items():
            if seller != self.seller or kind != "CONTRACT" or contract.status != "ACTIVE":
                continue
            if contract.at > self.at or self.subject not in contract.related_subject_matters:
                continue
            if contract.ended_on is None or (
                last_day is not None and last_day <= contract.ended_on
            ):
                return True
        return False

    def any_line(self, lines: Iterable[str]) -> bool:
        """True if the number may be on one of these lines."""
        return any(line in lines for line in self.lines)

    def is_party(self, party: str) -> bool:
        """True if the called party may be this kind; who is not known is taken for a consumer."""
        return party in self.parties or (not self.parties and party == "CONSUMER")


def _named(scope: str, word: str) -> bool:
    """True if a word of a restriction's scope covers the request's; UNKNOWN covers everything."""
    return scope in (word, ANY, UNKNOWN) or word == UNKNOWN
