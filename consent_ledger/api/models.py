"""The bodies of requests and answers, as the OpenAPI document shows them.

Times are RFC 3339 in UTC. Answers never repeat a telephone number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from consent_ledger.api.problems import FieldError

ItemStatus = Literal["accepted", "duplicate", "rejected", "unavailable"]
Wait = Literal["projected", "recorded"]
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Places = Annotated[list[Identifier], msgspec.Meta(max_length=64)]
PostalCode = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=16, description="78701, 78701-1234, M5V 2T6 or M5V"),
]
NumberText = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, description="E.164, e.g. +14155550123")
]


class ItemResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What became of one event, in the order of the request.

    `accepted`: the log has it. `duplicate`: the same event was accepted before, at the position
    given. `rejected`: nothing was changed; `field` and `remedy` say what to mend. `unavailable`:
    it is not known whether the log has it; send it again with the same id.
    """

    position: int
    status: ItemStatus
    event_id: str = ""
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    accepted_at: str = ""
    projected_at: str = ""
    recorded_at: str = ""
    reason: str = ""
    field: str = ""
    value: str = ""
    remedy: str = ""
    notices: list[FieldError] = []


class EventsAnswer(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Counts and one result per event. `wait_met` tells whether what was waited for happened."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    wait: Wait | None = None
    wait_met: bool = True
    results: list[ItemResult] = []


class CallQuestion(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A call for this purpose and in this way, without the number.

    `states` (US-TX, GB), `zones` (IANA names) and `postal_code` (US, Canada) are where the person
    is known to be. They add to what the ledger's facts and the number itself name: a call must
    be allowed in every candidate. `test` decides on rehearsal events only.
    """

    seller_id: Identifier
    purpose: Literal["MARKETING", "INFORMATIONAL", "TRANSACTIONAL", "SURVEY", "DEBT"]
    call_mode: Literal["LIVE", "PRERECORDED", "ARTIFICIAL", "AI_VOICE"]
    dial_mode: Literal["MANUAL", "PREVIEW", "PROGRESSIVE", "PREDICTIVE", "ATDS"]
    party: Literal["UNKNOWN", "CONSUMER", "BUSINESS"] = "UNKNOWN"
    campaign_id: Identifier | None = None
    subject_matter: Identifier | None = None
    request_id: Identifier | None = None
    telemarketer_id: Identifier | None = None
    good_or_service: Identifier | None = None
    sector: str = "UNKNOWN"
    message_class: str = "UNKNOWN"
    emergency_purpose: bool | None = None
    caller_id_number: Identifier | None = None
    script_id: Identifier | None = None
    script_version: Identifier | None = None
    message_id: Identifier | None = None
    shipment_id: Identifier | None = None
    failed_signature_attempts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    states: Places = []
    zones: Places = []
    counties: Places = []
    postal_code: PostalCode | None = None
    test: bool = False


class CheckRequest(CallQuestion, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """May this number be called, now, for this purpose and in this way?

    `states` (US-TX, GB), `zones` (IANA names) and `postal_code` (US, Canada) are where the person
    is known to be. They add to what the ledger's facts and the number itself name: a call must
    be allowed in every candidate. `freshness_ms_max` asks for a fresher view than the ledger's
    own limit. `test` decides on rehearsal events only.
    """

    number: NumberText
    freshness_ms_max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    explain: Annotated[
        bool, msgspec.Meta(description="Answer with the trace: each rule, its outcome and facts")
    ] = False


class CheckBatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Several checks at once; each is decided, recorded and answered for itself."""

    checks: list[CheckRequest]


class Reason(msgspec.Struct):
    """The code of a reason or an obligation, and what it means."""

    code: str
    text: str


class Freshness(msgspec.Struct):
    """Up to when the answer holds all that the log had, and how long ago that was."""

    true_at: str | None
    age_ms: int | None


class RuleTrace(msgspec.Struct, omit_defaults=True):
    """One rule for such calls: how it came out, by which facts, and where it is written.

    `rule` is ID@revision. `PASS`: the call may be placed as far as this rule goes; with an
    `exemption`, because that saves it. `DENY` and `UNKNOWN` (a list is not loaded) have a `reason`,
    as have `OBLIGE`, which asks the caller for something, and `WARN`. `SHADOW` is a row that is not
    in force, with the reason for which it would deny. `NOT_APPLICABLE`: there was nothing to judge.
    Instants among the facts are RFC 3339, lists are JSON.
    """

    rule: Annotated[str, msgspec.Meta(description="ID@revision")]
    outcome: Annotated[
        Literal["PASS", "DENY", "SHADOW", "NOT_APPLICABLE", "OBLIGE", "WARN", "UNKNOWN"],
        msgspec.Meta(description="How the rule came out; UNKNOWN: a list is not loaded"),
    ]
    title: Annotated[str, msgspec.Meta(description="What the rule says")] = ""
    reason: Annotated[str, msgspec.Meta(description="Code that it gives, or would give")] = ""
    exemption: Annotated[str, msgspec.Meta(description="What saved the call")] = ""
    facts: Annotated[
        dict[str, str], msgspec.Meta(description="Facts used; instants are RFC 3339, lists JSON")
    ] = {}
    citation: Annotated[list[str], msgspec.Meta(description="Where it is written")] = []


class PermitAnswer(msgspec.Struct):
    """Leave to place this call before `expires_at`, and the signed proof of it.

    Cite `id` as `permit_id` of the CallPlaced. `token` is a compact JWS; the keys that verify it
    are at `/.well-known/jwks.json`.
    """

    id: str
    token: str
    expires_at: str


class CheckAnswer(msgspec.Struct, kw_only=True):
    """`allow`: the call may be placed now. `deny`: it must not. `unavailable`: not known, so no.

    The decision stands in the log under `decision_id`; an allow is answered only once it does, and
    comes with a `permit`.
    """

    verdict: Literal["allow", "deny", "unavailable"]
    reason: Reason | None
    reasons: list[Reason]
    rule: str | None
    obligations: list[Reason]
    next_allowed: str | None
    permit: PermitAnswer | None
    decision_id: str
    decided_at: str
    freshness: Freshness
    rulebook: str
    request_id: str | None
    states: list[str]
    zones: list[str]
    trace: list[RuleTrace] | None = None


class CheckOutcome(msgspec.Struct, omit_defaults=True):
    """The answer to a check, or why it can't be decided about: then nothing is permitted."""

    answer: CheckAnswer | None = None
    error: FieldError | None = None


class CheckBatchAnswer(msgspec.Struct):
    """One entry per check, in order."""

    results: list[CheckOutcome]


class TimelineRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Everything the ledger holds of one number, in the order in which the log took it."""

    number: NumberText
    include_test: bool = False
    entries_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    after: str | None = None


class TimelineEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event as history keeps it: without evidence, with what it means in plain words."""

    type: str
    summary: str
    occurred_at: str
    recorded_at: str
    event_id: str
    seller_id: str
    topic: str
    partition: int
    offset: int
    repeated: bool = False
    test: bool = False
    reasons: list[Reason] = []
    evidence: list[str] = []
    fields: dict[str, Any] = {}


class TimelineAnswer(msgspec.Struct, kw_only=True):
    """The events, oldest first. `next` goes into `after` for more, null at the end."""

    entries: list[TimelineEntry]
    next: str | None
