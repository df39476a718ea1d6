"""Any past moment from history: what was known of a number, and what a call would have been told.

Puts together what history held (`projections.past`) and the pure fold and decision; does no
writing. What can't be known is said in `notes`, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from consent.call import CallRequest, Surroundings
from consent.decision import Decision, decide, unavailable
from consent.decision_record import RecordedLink, request_of
from consent.decision_replay import Replay, replay
from consent.errors import Corrupt, Rejected
from consent.instants import instant_text
from consent.past_surroundings import (
    REGISTRY_TOPIC,
    ActiveRulebook,
    active_rulebook,
    books_of,
    campaign_counts,
    recorded_registries,
)
from consent.privacy import subject_token
from consent.programs import ProgramQuestion
from consent.reasons import PARTY_TOO_LARGE
from consent.reconstruction import (
    KnownFact,
    StateChange,
    applied_facts,
    arrived,
    counting,
    fold,
    is_linked,
    party_tokens,
    repeated_ids,
    state_changes,
)
from consent.rulebook import Rulebook
from consent.state import TEST_PREFIX, SubjectState
from consent.tallies import CampaignId
from consent_ledger.api.call_requests import call_request
from consent_ledger.api.models import CallQuestion
from projections.past import Past

NO_RULEBOOK: Final = (
    "no rulebook had been put into use by then; judged by this release's, version {version}"
)
RULEBOOK_LOST: Final = (
    "the rulebook in use then ({digest}) is not kept in this history; "
    "judged by this release's, version {version}"
)
NO_LISTS: Final = (
    "which do-not-call lists held the number then is not kept; no decision about it recorded any"
)
LISTS_OF: Final = "memberships in do-not-call lists are those that decision {decision} recorded"


@dataclass(frozen=True, slots=True)
class Moment:
    """What is asked: `at`, the moment, as it was known at `known_at`; both in µs."""

    at: int
    known_at: int


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The number as it was. `facts` are those that were folded, in the log's order.

    `late` are those among them that were recorded after the moment itself, and `late_changes` what
    they changed. `decision` is there if a call was asked about, under `rulebook`; `activation` is
    None where no rulebook had been put into use. `repeated` are event ids that were used twice.
    """

    moment: Moment
    facts: tuple[KnownFact, ...]
    state: SubjectState
    linked: tuple[SubjectState, ...]
    late: tuple[KnownFact, ...]
    late_changes: tuple[StateChange, ...]
    repeated: tuple[str, ...]
    rulebook: Rulebook
    activation: ActiveRulebook | None
    notes: tuple[str, ...]
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class ViewedLater:
    """The same moment as known at two times: what arrived in between, and what it changed."""

    before: Reconstruction
    after: Reconstruction
    arrived: tuple[KnownFact, ...]
    changes: tuple[StateChange, ...]

    @property
    def verdict_changed(self) -> bool:
        """True if a call would have been answered otherwise, or for another primary reason."""
        one, other = self.before.decision, self.after.decision
        if one is None or other is None:
            return False
        return (one.verdict, one.reason) != (other.verdict, other.reason)


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """A recorded decision made again, from how many facts, and the record itself."""

    record: Mapping[str, Any]
    fact: KnownFact
    facts: int
    result: Replay
    rulebook: Rulebook
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """One number's facts and state at a moment."""

    facts: tuple[KnownFact, ...]
    state: SubjectState


@dataclass(frozen=True, slots=True)
class _Rules:
    """By what to judge, and what is to be said about it."""

    rulebook: Rulebook
    activation: ActiveRulebook | None
    note: str | None


class Reconstructor:
    """Answers from history alone; every call blocks.

    `release` is this release's rulebook, `profile` the reading of the law where none is recorded.
    """

    def __init__(
        self,
        past: Past,
        history_key: bytes,
        release: Rulebook,
        profile: str = "STRICT",
        party_numbers_max: int = 64,
    ) -> None:
        self._past = past
        self._history_key = history_key
        self._profile = profile
        self._party_numbers_max = party_numbers_max
        self._rulebooks: dict[bytes, Rulebook | None] = {release.digest: release}
        self._release = release

    def at_moment(
        self, number: str, moment: Moment, asked: CallQuestion | None = None
    ) -> Reconstruction:
        """A canonical number at a moment; with the answer to a call, if one is asked about."""
        subject = subject_token(self._history_key, number)
        known, around = self._past.surrounded(subject, moment.known_at)
        facts = counting(known, moment.at, moment.known_at)
        held = _Held(tuple(facts), fold(facts))
        rules = self._rules(around)
        late = arrived(facts, moment.at, moment.at, moment.known_at)
        on_time = fold(fact for fact in facts if fact.position.recorded_at <= moment.at)
        made = Reconstruction(
            moment=moment,
            facts=held.facts,
            state=held.state,
            linked=(),
            late=tuple(late),
            late_changes=state_changes(on_time, held.state) if late else (),
            repeated=repeated_ids(facts),
            rulebook=rules.rulebook,
            activation=rules.activation,
            notes=() if rules.note is None else (rules.note,),
        )
        return made if asked is None else self._asked(made, subject, number, asked, around)

    def difference(
        self, number: str, moment: Moment, later: int, asked: CallQuestion | None = None
    ) -> ViewedLater:
        """A moment as known then and as known later; ValueError if `later` is not later."""
        if later < moment.known_at:
            raise ValueError("the second time must not be before the first")
        before = self.at_moment(number, moment, asked)
        after = self.at_moment(number, replace(moment, known_at=later), asked)
        new = arrived(after.facts, moment.at, moment.known_at, later)
        changes = state_changes(before.state, after.state)
        return ViewedLater(before, after, tuple(new), changes)

    def decision(self, event_id: str) -> ReplayedDecision:
        """Make a recorded decision again; Rejected if history has none of this id.

        Corrupt if what it names to be repeated by is not there.
        """
        found = self._past.decision(event_id)
        if found is None or found.fields is None or found.subject is None:
            remedy = "give the decision_id that the check answered; it is recorded within seconds"
            raise Rejected("NO_DECISION", "decision", event_id[:40], remedy)
        facts = self._past.facts_of(found.subject)
        links = request_of(found.fields).linked
        others = self._past.facts_of_linked({link.token: link.applied for link in links})
        return self.replayed(found, facts, others)

    def replayed(
        self,
        found: KnownFact,
        facts: Sequence[KnownFact],
        others: Mapping[bytes, Sequence[KnownFact]],
    ) -> ReplayedDecision:
        """Make a decision again by all facts of its number and of the linked ones."""
        assert found.fields is not None
        record = found.fields
        digest = record["rulebook_digest"]
        rulebook = self.rulebook(digest)
        if rulebook is None:
            raise Corrupt(f"the decision's rulebook {digest.hex()} is not kept in this history")
        own = applied_facts(facts, record["applied"])
        linked = [states_facts(link, others) for link in request_of(record).linked]
        result = replay(record, fold(own), [fold(one) for one in linked], rulebook)
        count = len(own) + sum(len(one) for one in linked)
        return ReplayedDecision(record, found, count, result, rulebook)

    def rulebook(self, digest: bytes) -> Rulebook | None:
        """A rulebook by its digest, from history or this release; None if neither has it."""
        if digest not in self._rulebooks:
            content = self._past.rulebook_content(digest)
            found = None if content is None else Rulebook.from_content(content, digest)
            self._rulebooks[digest] = found
        return self._rulebooks[digest]

    def _rules(self, around: Sequence[KnownFact]) -> _Rules:
        active = active_rulebook(around)
        release = self._release
        if active is None:
            return _Rules(release, None, NO_RULEBOOK.format(version=release.version))
        rulebook = self.rulebook(active.digest)
        if rulebook is None:
            digest = active.digest.hex()[:16]
            note = RULEBOOK_LOST.format(digest=digest, version=release.version)
            return _Rules(release, active, note)
        return _Rules(rulebook, active, None)

    def _asked(
        self,
        made: Reconstruction,
        subject: bytes,
        number: str,
        asked: CallQuestion,
        around: Sequence[KnownFact],
    ) -> Reconstruction:
        """The same with what a call would have been told."""
        at = made.moment.at
        profile = self._profile
        if made.activation is not None and made.activation.profile:
            profile = made.activation.profile.upper()
        call = call_request(asked, number, made.state, profile)
        linked = self._linked(subject, made, call)
        if linked is None:
            decision = unavailable(call, PARTY_TOO_LARGE, made.rulebook, at)
            return replace(made, decision=decision)
        surroundings, note = self._around(call, made, around)
        surroundings = replace(surroundings, linked=linked)
        decision = decide(call, made.state, surroundings, made.rulebook, at)
        return replace(made, linked=linked, decision=decision, notes=(*made.notes, note))

    def _linked(
        self, subject: bytes, made: Reconstruction, call: CallRequest
    ) -> tuple[SubjectState, ...] | None:
        """States of the person's other numbers; None if they are too many to be believed."""
        parties = party_tokens(made.state, call.seller_id, call.test)
        moment = made.moment
        found = self._past.linked(parties, subject, moment.known_at, self._party_numbers_max)
        if found.too_many:
            return None
        states = []
        for other, facts in self._past.facts_of_many(found.subjects).items():
            if other == subject:
                continue
            state = fold(counting(facts, moment.at, moment.known_at))
            if is_linked(made.state, state, call.seller_id, call.test):
                states.append(state)
        return tuple(states)

    def _around(
        self, call: CallRequest, made: Reconstruction, around: Sequence[KnownFact]
    ) -> tuple[Surroundings, str]:
        """What surrounded the call, and what is to be said about its lists."""
        moment = made.moment
        counted = counting(around, moment.at, moment.known_at)
        programs, calendars = books_of(counted)
        seller_id = TEST_PREFIX + call.seller_id if call.test else call.seller_id
        question = ProgramQuestion(seller_id, call.campaign_id, call.states, call.caller_id_number)
        published = [fact for fact in counted if fact.position.topic == REGISTRY_TOPIC]
        lists = recorded_registries(made.facts, published)
        surroundings = Surroundings(
            registries=lists.registries,
            calendar=calendars.calendar(call.states, moment.at, test=call.test),
            program=programs.program(question),
        )
        if call.campaign_id is not None:
            name = CampaignId(call.seller_id, call.campaign_id)
            declared = programs.declared_start(CampaignId(seller_id, call.campaign_id))
            surroundings = self._with_counts(surroundings, name, call.test, moment, declared)
        note = NO_LISTS
        if lists.decision_id is not None:
            note = LISTS_OF.format(decision=lists.decision_id)
        return surroundings, note

    def _with_counts(
        self,
        surroundings: Surroundings,
        campaign: CampaignId,
        test: bool,
        moment: Moment,
        declared: int | None,
    ) -> Surroundings:
        counted_from = declared
        if counted_from is None:
            first = self._past.first_call_at(campaign, test, moment.known_at)
            counted_from = first if first is not None and first <= moment.at else None
        calls = self._past.calls_of(campaign, test, moment.at, moment.known_at)
        counts = campaign_counts(
            counting(calls, moment.at, moment.known_at), moment.at, counted_from
        )
        return replace(surroundings, campaign=counts)


def states_facts(
    link: RecordedLink, others: Mapping[bytes, Sequence[KnownFact]]
) -> list[KnownFact]:
    """Facts of a linked number that a decision's state of it held."""
    return applied_facts(others.get(link.token, ()), link.applied)


def moment_text(moment: Moment) -> str:
    """A moment in words."""
    return f"{instant_text(moment.at)}, as known at {instant_text(moment.known_at)}"
