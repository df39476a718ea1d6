"""A decision as the bytes of its event: what `encode` makes of `decision_record`, in less time.

Recording costs a check more than deciding does, and most of an event are the outcomes of the
rules, whose rules, codes and names of facts are the same ones again and again: their bytes are
kept. A general encoder can't know that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from consent.avro_values import Writer, long_bytes, string_bytes, writer
from consent.codec import Headers, cloudevents_headers, frame
from consent.contracts import contracts, named_types, resolved
from consent.decision import Decision, RuleOutcome
from consent.decision_record import RECORD, RecordContext, fact_text, fields_beside_outcomes

# Names and codes of a rulebook are some thousands; of values only the frequent ones stay.
_KEPT_TEXTS = 16_384


def encoded_decision(decision: Decision, context: RecordContext) -> tuple[bytes, Headers]:
    """The framed value of the DialDecision event, and its headers.

    ValueError if the context names other linked numbers than those whose states counted, or if a
    value does not fit the schema; KeyError for a symbol that it does not have.
    """
    fields = fields_beside_outcomes(decision, context)
    outcomes = _outcomes_bytes(decision.outcomes)
    body = b"".join(
        [outcomes if write is None else write(fields[name]) for name, write in _field_writers()]
    )
    record = contracts().record(RECORD)
    return frame(record.schema_id, body), cloudevents_headers(record, fields)


@cache
def _field_writers() -> list[tuple[str, Writer | None]]:
    """How each field is written, in the order of the schema; None: the outcomes."""
    schema = contracts().record(RECORD).schema
    named = named_types(schema)
    return [
        (
            field["name"],
            None if field["name"] == "outcomes" else writer(field["type"], named),
        )
        for field in schema["fields"]
    ]


def _outcomes_bytes(outcomes: Sequence[RuleOutcome]) -> bytes:
    if not outcomes:
        return b"\x00"
    parts = [long_bytes(len(outcomes))]
    for line in outcomes:
        parts.append(_head_bytes(line.rule.name, line.outcome, line.reason, line.exemption))
        if line.facts:
            parts.append(long_bytes(len(line.facts)))
            for name, value in line.facts:
                parts.append(_text_bytes(name))
                parts.append(_text_bytes(fact_text(value)))
        parts.append(b"\x00")
    parts.append(b"\x00")
    return b"".join(parts)


@lru_cache(_KEPT_TEXTS)
def _head_bytes(rule: str, outcome: str, reason: str | None, exemption: str | None) -> bytes:
    """All of an outcome that comes before its facts."""
    parts = zip(_head_writers(), (rule, outcome, reason, exemption), strict=True)
    return b"".join(write(value) for write, value in parts)


@cache
def _head_writers() -> list[Writer]:
    schema = contracts().record(RECORD).schema
    named = named_types(schema)
    outcomes = next(field["type"] for field in schema["fields"] if field["name"] == "outcomes")
    *head, _facts = resolved(outcomes["items"], named)["fields"]
    if [field["name"] for field in head] != ["rule", "outcome", "reason", "exemption"]:
        raise ValueError(f"an outcome of {RECORD} has other fields before its facts")
    return [writer(field["type"], named) for field in head]


_text_bytes = lru_cache(_KEPT_TEXTS)(string_bytes)
