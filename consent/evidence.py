"""Which elements of evidence came with an event, as a bit set.

History keeps the bits, the evidence itself is stored apart and can be erased: a decision that
asked whether there was a signature can then still be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars

EVIDENCE_FIELDS: Final = (
    "name",
    "email",
    "ip",
    "user_agent",
    "session_id",
    "page_url",
    "page_copy_uri",
    "wording",
    "wording_language",
    "request_copy_uri",
    "consent_copy_uri",
    "recording_uri",
    "recording_sha256",
    "signature_method",
    "signature",
    "certificate_urls",
    "certificate_outcome",
    "document_uri",
    "document_sha256",
    "actor",
    "customer_reference",
    "party_reference",
    "address",
    "billing_address",
    "other_number",
    "note",
    "extra",
)
"""Fields of the evidence sub-record. The position is the bit number: append, never reorder."""

_FIRST_STATEMENT_BIT: Final = 40

STATEMENT_FIELDS: Final = (
    "seller_named",
    "number_named",
    "authorises_automated",
    "not_a_condition",
    "positive_act",
    "double_opt_in",
    "request_copy_sha256",
    "notice_sha256",
    "consent_copy_sha256",
    "signed_at",
    "disclosure_sha256",
    "consent_registry_id",
    "quiet_hours_agreed",
)
"""What a grant states about itself, from bit 40 on: append, never reorder."""

BITS: Final[Mapping[str, int]] = {
    **{name: bit for bit, name in enumerate(EVIDENCE_FIELDS)},
    **{name: _FIRST_STATEMENT_BIT + bit for bit, name in enumerate(STATEMENT_FIELDS)},
}
"""Bit number of every element, 0 to 62."""

ELEMENTS: Final = tuple(BITS)


def element_bits(event: Mapping[str, Any]) -> int:
    """Bit set of the elements of one event. Empty lists and false statements are absent."""
    evidence = event.get("evidence") or {}
    bits = 0
    for name in EVIDENCE_FIELDS:
        if _present(evidence.get(name)):
            bits |= 1 << BITS[name]
    for name in STATEMENT_FIELDS:
        if _present(event.get(name)):
            bits |= 1 << BITS[name]
    return bits


def bits_of(names: Iterable[str]) -> int:
    """Bit set of the named elements; KeyError for a name that is none."""
    bits = 0
    for name in names:
        bits |= 1 << BITS[name]
    return bits


def missing_elements(required: int, present: int) -> tuple[str, ...]:
    """Names of the required elements that are not present."""
    lacking = required & ~present
    return tuple(name for name, bit in BITS.items() if lacking >> bit & 1)


def has_evidence(frame: polars.DataFrame) -> bool:
    """True if any row of a frame of events has evidence; most events have none."""
    if "evidence" not in frame.columns:
        return False
    return frame.get_column("evidence").null_count() < frame.height


def element_column(frame: polars.DataFrame) -> polars.Series:
    """Bit set of every row of a frame of events; equal to `element_bits` row by row.

    Uses the column `evidence` and those of STATEMENT_FIELDS that the frame has.
    """
    total = polars.lit(0, dtype=polars.Int64)
    if has_evidence(frame):
        for field in _struct_fields(frame.schema["evidence"]):
            if field.name in BITS:
                value = polars.col("evidence").struct.field(field.name)
                total = total + _bit(value, field.dtype, BITS[field.name])
    for name in STATEMENT_FIELDS:
        if name in frame.columns:
            total = total + _bit(polars.col(name), frame.schema[name], BITS[name])
    return frame.with_columns(total.alias("elements")).get_column("elements")


def _present(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return bool(value)
    return value is not None


def _bit(value: polars.Expr, dtype: polars.DataType | Any, bit: int) -> polars.Expr:
    if dtype == polars.Boolean:
        present = value.fill_null(False)
    elif isinstance(dtype, polars.List):
        present = value.list.len().fill_null(0) > 0
    else:
        present = value.is_not_null()
    return present.cast(polars.Int64) * (1 << bit)


def _struct_fields(dtype: Any) -> Iterable[polars.Field]:
    return dtype.fields if isinstance(dtype, polars.Struct) else ()
