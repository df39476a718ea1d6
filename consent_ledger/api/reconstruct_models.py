"""Questions and answers about past moments, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from consent_ledger.api.models import CallQuestion, Identifier, NumberText, Reason, RuleTrace

InstantText = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=40, description="RFC 3339, e.g. 2026-11-24T15:00:00Z"),
]


class ReconstructRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A number at a moment, or a recorded decision: give `number` and `at`, or `decision_id`.

    `known_at` is when it is looked at from: only what the ledger had recorded by then counts; `at`
    itself if it is not given, which is what the dialer knew. `difference` is a later time to look
    from as well: what arrived in between, and what it changed. With `call`, the answer that such a
    call would have got.
    """

    number: NumberText | None = None
    at: InstantText | None = None
    known_at: InstantText | None = None
    difference: InstantText | None = None
    call: CallQuestion | None = None
    explain: bool = True
    decision_id: Identifier | None = None


class PastEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event that was recorded late: `recorded_at` later than it happened, by `late_s`."""

    type: str
    summary: str
    occurred_at: str
    recorded_at: str
    late_s: int
    seller_id: str
    source_system: str
    event_id: str
    topic: str
    partition: int
    offset: int
    test: bool = False


class PastRulebook(msgspec.Struct, kw_only=True):
    """By which rules; `activated_at` is null if none had been put into use by then."""

    digest: str
    version: str
    activated_at: str | None


class PastDecision(msgspec.Struct, kw_only=True):
    """What a call would have been answered. Nothing is recorded of it, and it permits nothing."""

    verdict: str
    reason: Reason | None
    reasons: list[Reason]
    rule: str | None
    obligations: list[Reason]
    next_allowed: str | None
    states: list[str]
    zones: list[str]
    trace: list[RuleTrace] | None = None


class LaterView(msgspec.Struct, kw_only=True):
    """The same moment as known at a later time: what had arrived, and what it changed."""

    known_at: str
    arrived: list[PastEvent]
    changes: list[dict[str, Any]]
    verdict_changed: bool
    decision: PastDecision | None
    rulebook: PastRulebook
    notes: list[str]


class ReconstructAnswer(msgspec.Struct, kw_only=True):
    """The number as it was. `notes` say what is not known, and what was assumed for it.

    `state` holds entries by section. `late` are events that had happened by `at` and that nobody
    could know of then, and `late_changes` the entries that they changed. `repeated_event_ids` were
    used for different contents: all of them count.
    """

    at: str
    known_at: str
    facts: int
    state: dict[str, list[dict[str, Any]]]
    linked_numbers: int
    rulebook: PastRulebook
    decision: PastDecision | None
    late: list[PastEvent]
    late_changes: list[dict[str, Any]]
    repeated_event_ids: list[str]
    notes: list[str]
    later: LaterView | None = None


class RecordDifference(msgspec.Struct):
    """A place of a decision's record: what it says, and what was found there now."""

    place: str
    recorded: Any
    again: Any


class ReplayAnswer(msgspec.Struct, kw_only=True):
    """A recorded decision made again: `same`, or the first place where it differs.

    `made_by` names the versions of engine, time-zone data and area tables that the record names
    and that are others here.
    """

    decision_id: str
    same: bool
    decided_at: str
    seller_id: str
    verdict: str
    reason: str | None
    rulebook: str
    facts: int
    linked_numbers: int
    difference: RecordDifference | None
    made_by: list[RecordDifference]
