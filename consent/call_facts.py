"""One call at one instant: what the number's state and its surroundings say about it.

Checks of every kind ask their questions here, so that seller, purpose, mode and subject are
matched in one place. Restrictions count whatever their date (one that is dated ahead by a clock
that runs fast still stops the call); permissions count from their time on, and until they end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from consent.call import (
    UNKNOWN,
    CallRequest,
    ListMembership,
    Surroundings,
    candidate_states,
    candidate_zones,
)
from consent.state import SubjectState
from consent.state_entries import (
    ANY,
    TEST_PREFIX,
    DncEntry,
    DncKey,
    Grant,
    GrantKey,
    Refusal,
    Relationship,
    Withdrawal,
    WithdrawalKey,
)
from consent.zones import ANYWHERE, DAY_US, clock_text, local_day, offset_at

NEVER: Final = -(1 << 62)
"""Before every instant: the time of a withdrawal that was never made."""

WithdrawalScope = Literal["request", "any_mode", "any_call"]


@dataclass(frozen=True, slots=True)
class Geography:
    """What a rulebook says about places: countries with law of their own, and second names.

    `divided` are countries whose subdivisions have law of their own: there the country alone does
    not say which law holds. `washes` are registries that are asked number by number: what they
    answered is in the state.
    """

    lawful_countries: frozenset[str]
    aliases: Mapping[str, str]
    washes: frozenset[str] = frozenset()
    divided: frozenset[str] = frozenset()
    _candidates: dict[tuple[str, ...], tuple[str, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def candidates(self, places: tuple[str, ...]) -> tuple[str, ...]:
        """The jurisdictions among some places, sorted, by one name each."""
        found = self._candidates.get(places)
        if found is None:
            if len(self._candidates) >= _PLACES_CACHED_MAX:
                self._candidates.clear()
            found = self._candidates[places] = candidate_states(places, self.aliases)
        return found


_PLACES_CACHED_MAX: Final = 10_000
"""So many combinations of places are kept resolved; then the cache starts anew."""


class CallFacts:
    """A request, a state and an instant. Nothing is read from outside.

    Not changed once made, but for `reliance`, which the engine sets before it judges the rules
    that ask what the others passed by: `consent`, `relationship`, both or nothing.
    """

    __slots__ = (
        "at",
        "attributes",
        "clock_texts_of",
        "clocks",
        "counties",
        "everyone",
        "geography",
        "lines",
        "message_classes",
        "mode",
        "parties",
        "profile",
        "purpose",
        "reliance",
        "request",
        "revoked_at",
        "sectors",
        "seller",
        "sellers",
        "state",
        "states",
        "subject",
        "surroundings",
        "zones",
    )

    def __init__(
        self,
        request: CallRequest,
        state: SubjectState,
        surroundings: Surroundings,
        geography: Geography,
        at: int,
    ) -> None:
        self.request = request
        self.state = state
        self.surroundings = surroundings
        self.geography = geography
        self.at = at
        self.clocks: dict[str, int] = {}
        self.clock_texts_of: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = {}
        self.reliance: frozenset[str] = frozenset()
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

    def moved(self, at: int) -> CallFacts:
        """The same call at another instant."""
        moved = CallFacts.__new__(CallFacts)
        for name in CallFacts.__slots__:
            setattr(moved, name, getattr(self, name))
        moved.at, moved.clocks, moved.clock_texts_of, moved.reliance = at, {}, {}, frozenset()
        return moved

    def _resolve(self, prefix: str) -> None:
        """Candidates and traits: what the request states and what the number's state recorded."""
        request, program = self.request, self.surroundings.program
        self.sectors = _known(request.sector, *program.sectors)
        self.message_classes = _known(request.message_class, program.message_class)
        self.attributes = recorded = (
            _attributes(self.state, prefix) if self.state.attributes else {}
        )
        nothing: frozenset[str] = frozenset()
        self.states = self.geography.candidates((*request.states, *recorded.get("states", nothing)))
        zones = request.zones
        if "zones" in recorded:
            zones = (*zones, *candidate_zones(recorded["zones"]))
        self.zones = zones if len(zones) == 1 else tuple(sorted(set(zones)))
        self.counties = tuple(sorted({*request.counties, *recorded.get("counties", nothing)}))
        self.lines = tuple(sorted(recorded.get("line_type", nothing))) or (UNKNOWN,)
        self.parties = _known(request.party, *recorded.get("party", nothing))

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

    def agreed_since(
        self, since: int, kinds: frozenset[str], evidence: tuple[int, ...] = ()
    ) -> tuple[GrantKey, Grant] | None:
        """The newest grant of these kinds that covers the call now and is newer than `since`.

        Of each set of bits of `evidence` at least one must have come with it.
        """
        newest: tuple[GrantKey, Grant] | None = None
        for key, grant in self.state.grants.items():
            if key[3] in kinds and since < grant.at <= self.at and self.in_scope(key, grant):
                if grant.expires_at is not None and grant.expires_at <= self.at:
                    continue
                if not all(grant.elements & alternatives for alternatives in evidence):
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

    def listings(
        self, kinds: frozenset[str], state: SubjectState
    ) -> Iterator[tuple[DncKey, DncEntry]]:
        """Entries of these list kinds in a state that stand against this seller.

        A removal counts from its time on: until then the number is still listed.
        """
        for key, entry in state.dnc.items():
            if key[0] in self.sellers and key[1] in kinds and (entry.listed or entry.at > self.at):
                yield key, entry

    def membership(self, list_id: str) -> ListMembership | None:
        """What a registry says about the number; None, or of no member, if it is not loaded.

        A registry that is asked number by number answers by the newest result in the state.
        """
        found = self.surroundings.registries.membership(list_id)
        if (found is None or found.member is None) and list_id in self.geography.washes:
            answers = [
                (entry.at, entry.listed, entry)
                for key, entry in self.state.dnc.items()
                if key[0] in self.sellers and key[2] == list_id
            ]
            if answers:
                at, listed, entry = max(answers)
                asked_on = min(local_day(at, name) for name in self.zones or ANYWHERE)
                listed = listed or at > self.at
                return ListMembership(list_id, None, None, asked_on, listed, entry.listed_on)
        return found

    def refusals(self, per_subject: bool) -> Iterator[tuple[str, Refusal]]:
        """Refusals to this seller, of this call's subject or of any."""
        for (seller, subject), refusal in self.state.refusals.items():
            if seller in self.sellers and (not per_subject or self.about(subject)):
                yield subject, refusal

    def relationships(self, kinds: frozenset[str]) -> Iterator[tuple[str, Relationship]]:
        """Relationships of these kinds with the seller that began, with their kind."""
        for (seller, kind, _id), relationship in self.state.relationships.items():
            if seller == self.seller and kind in kinds and relationship.at <= self.at:
                yield kind, relationship

    def on_clock(self, name: str) -> int:
        """What the clock of a zone shows, in microseconds, as if it were UTC."""
        local = self.clocks.get(name)
        if local is None:
            local = self.clocks[name] = self.at + offset_at(self.at, name)
        return local

    def clock_texts(self, zones: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """What the clocks of some zones show, to be read by a person."""
        texts = self.clock_texts_of.get(zones)
        if texts is None:
            texts = tuple((name, clock_text(self.on_clock(name))) for name in zones)
            self.clock_texts_of[zones] = texts
        return texts

    def days(self, zones: tuple[str, ...] = ()) -> list[int]:
        """Local dates in these zones, else in the candidate ones, else anywhere on earth."""
        return [self.on_clock(name) // DAY_US for name in zones or self.zones or ANYWHERE]

    def concerns(self, jurisdiction: str, counties: tuple[str, ...] = ()) -> bool:
        """True if the called party may be in this jurisdiction, and in one of the counties.

        A place that is known less closely than a county is taken to be in it; so is one of which
        no county within the jurisdiction is known.
        """
        if not any(_overlap(jurisdiction, state, "-") for state in self.states):
            return False
        return not counties or self.in_counties(counties)

    def in_counties(self, counties: tuple[str, ...]) -> bool:
        """True if the called party may be in one of these counties of one jurisdiction."""
        for county in counties:
            within = county.split("/", 1)[0].casefold() + "/"
            known = [one for one in self.counties if one.casefold().startswith(within)]
            if not known or any(_overlap(county, one, "/") for one in known):
                return True
        return False

    def any_line(self, lines: Iterable[str]) -> bool:
        """True if the number may be on one of these lines."""
        return any(line in lines for line in self.lines)

    def is_party(self, party: str) -> bool:
        """True if the called party may be this kind; who is not known is taken for a consumer."""
        return party in self.parties or (not self.parties and party == "CONSUMER")


def _attributes(state: SubjectState, prefix: str) -> dict[str, set[str]]:
    """Union of every attribute over everything that stated it, whatever its source."""
    recorded: dict[str, set[str]] = {}
    for key, attribute in state.attributes.items():
        if key.startswith(prefix):
            name = key[len(prefix) :].split(":", 1)[0]
            recorded.setdefault(name, set()).update(attribute.values)
    return recorded


def _known(*words: str) -> tuple[str, ...]:
    known = {word for word in words if word != UNKNOWN}
    return tuple(sorted(known)) if len(known) > 1 else tuple(known)


def _overlap(one: str, other: str, separator: str) -> bool:
    """True if two places are the same, or one lies within the other; letter case is no matter."""
    one, other = one.casefold() + separator, other.casefold() + separator
    return one.startswith(other) or other.startswith(one)


def _named(scope: str, word: str) -> bool:
    """True if a word of a restriction's scope covers the request's; UNKNOWN covers everything."""
    return scope in (word, ANY, UNKNOWN) or word == UNKNOWN
