"""What sellers filed and declared, looked up for a call.

The newest event of each registration, caller id and campaign counts; of two at one instant the one
that takes back. The same event twice is one: its first record counts, unless it takes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consent.call import CallerId, Program, Registration
from consent.state import TEST_PREFIX
from consent.tallies import CampaignId

PROGRAM_TOPIC: Final = "program-events"

Event = Mapping[str, Any]
_Key = tuple[str, ...]


class _Newest(NamedTuple):
    """An event by what orders it."""

    effective_at: int
    withdrawn: bool
    event_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class ProgramQuestion:
    """For which call: `seller_id` with TEST_PREFIX for a rehearsal; its candidate jurisdictions."""

    seller_id: str
    campaign_id: str | None
    states: tuple[str, ...]
    caller_id_number: str | None


class Activation(NamedTuple):
    """The rulebook that was put into use last."""

    rulebook_digest: bytes
    event_id: str


class ProgramBook:
    """Everything that was filed and declared. `version` grows when a campaign's start changes.

    `activation` is the last one in the order of the log, None before the first.
    """

    def __init__(self) -> None:
        self._registrations: dict[str, dict[_Key, _Newest]] = {}
        self._caller_ids: dict[tuple[str, str], dict[_Key, _Newest]] = {}
        self._campaigns: dict[CampaignId, _Newest] = {}
        self._met: set[tuple[str, str]] = set()
        self.version = 0
        self.activation: Activation | None = None

    def take(self, name: str, event: Event, effective_at: int) -> None:
        """Take one event in, in the order of its log; other types say nothing here."""
        withdrawn = bool(event.get("withdrawn", False))
        identity = (name, event["event_id"])
        if identity in self._met and not withdrawn:
            return
        seller_id = TEST_PREFIX + event["seller_id"] if event["test"] else event["seller_id"]
        newest = _Newest(effective_at, withdrawn, event["event_id"], event)
        if name == "CampaignDeclared":
            self._declared(CampaignId(seller_id, event["campaign_id"]), newest)
        elif name == "RegistrationFiled":
            key = (event["registration_kind"], event["jurisdiction"], event["registration_id"])
            _keep(self._registrations.setdefault(seller_id, {}), key, newest)
        elif name == "CallerIdAuthorised":
            of_number = self._caller_ids.setdefault((seller_id, event["caller_id_number"]), {})
            _keep(of_number, (event["authorisation_id"],), newest)
        elif name == "RulebookActivated" and not event["test"]:
            self.activation = Activation(event["rulebook_digest"], event["event_id"])
        else:
            return
        self._met.add(identity)

    def _declared(self, campaign: CampaignId, newest: _Newest) -> None:
        held = self._campaigns.get(campaign)
        _keep(self._campaigns, campaign, newest)
        kept = self._campaigns[campaign]
        if held is None or held.event["starts_at"] != kept.event["starts_at"]:
            self.version += 1

    def declared_start(self, campaign: CampaignId) -> int | None:
        """When a campaign begins by its declaration; None without one."""
        held = self._campaigns.get(campaign)
        return None if held is None else int(held.event["starts_at"])

    def program(self, question: ProgramQuestion) -> Program:
        """What bears on a call: all that is on file for its jurisdictions and for its caller id.

        Also what is not valid yet, or not any more: the rules look at their instant.
        """
        declared = self._declaration(question)
        return Program(
            registrations=tuple(self._registrations_of(question)),
            caller_ids=tuple(self._caller_ids_of(question)),
            **({} if declared is None else _declared_fields(declared)),
        )

    def _declaration(self, question: ProgramQuestion) -> Event | None:
        if question.campaign_id is None:
            return None
        held = self._campaigns.get(CampaignId(question.seller_id, question.campaign_id))
        return None if held is None else held.event

    def _registrations_of(self, question: ProgramQuestion) -> Iterable[Registration]:
        filed = self._registrations.get(question.seller_id, {})
        for _key, newest in sorted(filed.items()):
            event = newest.event
            if not newest.withdrawn and _bears_on(event["jurisdiction"], question.states):
                yield Registration(
                    event["registration_id"],
                    event["jurisdiction"],
                    event["registration_kind"],
                    event["valid_from"],
                    event["valid_until"],
                    event["campaign_id"],
                    event["area"],
                )

    def _caller_ids_of(self, question: ProgramQuestion) -> Iterable[CallerId]:
        if question.caller_id_number is None:
            return
        place = (question.seller_id, question.caller_id_number)
        for _key, newest in sorted(self._caller_ids.get(place, {}).items()):
            event = newest.event
            if not newest.withdrawn:
                yield CallerId(
                    event["authorisation_id"],
                    event["caller_id_number"],
                    event["valid_from"],
                    event["valid_until"],
                    event["number_kind"],
                    event["answers_opt_outs"],
                )


def _keep(held: dict[Any, _Newest], key: Any, newest: _Newest) -> None:
    before = held.get(key)
    if before is None or newest[:3] > before[:3]:
        held[key] = newest


def _bears_on(jurisdiction: str, states: tuple[str, ...]) -> bool:
    """True if it is one of the states, their country, or a part of a country that stands alone."""
    return any(jurisdiction in (state, state[:2]) or jurisdiction[:2] == state for state in states)


def _declared_fields(event: Event) -> dict[str, Any]:
    return {
        "seller_type": event["seller_type"],
        "sectors": tuple(event["sectors"]),
        "message_class": event["message_class"],
        "ring_seconds_min": event["ring_seconds_min"],
        "ring_count_min": event["ring_count_min"],
        "recording_notice_available": event["recording_notice_available"],
        "free_to_recipient": event["free_to_recipient"],
        "answering_machine_detection": event["answering_machine_detection"],
        "machine_detection_false_positives_ppm": event["machine_detection_false_positives_ppm"],
    }
