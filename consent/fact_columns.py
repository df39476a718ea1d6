"""The columns that history shows beside a fact, recomputed from the fact's bytes alone.

The writer fills the table with this function and `verify` calls it again: a stored column that
differs from it was changed. Adding a column is a migration that fills it from `fact`; changing
what an existing one means is not possible without rewriting the table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import polars

from consent.columns import ColumnsUnreadable, decode_columns, field_symbols
from consent.contracts import NAMESPACE, RecordContract, data_path, fact_schema
from consent.durations import after
from consent.suspect import AHEAD_MAX_US, OCCURRED_AT_MIN_US

NO_SUBJECT: Final = bytes(16)
"""Subject of a fact that is about no number."""

TIME_MIN_US: Final = -2_208_988_800_000_000
TIME_MAX_US: Final = 10_413_791_999_999_999
"""1900-01-01 and the end of 2299, between which the store can show a time; others are clamped."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A column taken from the payload: from the first of `fields` that the event type has."""

    name: str
    fields: tuple[str, ...]
    many: bool = False


TYPED: Final = (
    Typed("seller_id", ("seller_id",)),
    Typed("purposes", ("purpose", "purposes"), many=True),
    Typed("modes", ("call_mode", "modes"), many=True),
    Typed("subject_matters", ("subject_matter", "subject_matters"), many=True),
    Typed("dial_mode", ("dial_mode",)),
    Typed("consent_kind", ("consent_kind",)),
    Typed("change", ("change",)),
    Typed("list_kind", ("list_kind",)),
    Typed("list_id", ("list_id",)),
    Typed("area", ("area", "jurisdiction")),
    Typed("relationship_kind", ("relationship_kind",)),
    Typed("answer", ("answer",)),
    Typed("campaign_id", ("campaign_id",)),
    Typed("call_id", ("call_id",)),
    Typed("permit_id", ("permit_id",)),
    Typed("request_id", ("request_id", "hold_id", "complaint_id", "breach_id")),
    Typed("outcome", ("outcome",)),
    Typed("verdict", ("verdict",)),
    Typed("reason", ("reason", "ground")),
    Typed("reasons", ("reasons",), many=True),
    Typed("rule", ("rule",)),
    Typed("rulebook_digest", ("rulebook_digest",)),
)
"""Enums as their symbols, digests in hexadecimal, lists as lists; what is absent is empty."""

FLAGS: Final = (
    "abandoned",
    "all_sellers",
    "answered_live",
    "objection",
    "opt_out_all_sellers",
    "opt_out_whole_party",
    "opted_out",
    "refused",
    "whole_party",
    "withdrawn",
)
"""Yes-no fields whose names stand in the column `flags` where an event says yes."""

_EXPIRY: Final = ("expires_at", "permit_expires_at")
_SOURCE: Final = ("system", "channel", "actor")
_TEXTS: Final = polars.List(polars.String())
_TIME: Final = polars.Datetime("us", "UTC")

COLUMNS: Final[dict[str, Any]] = {
    "fact": polars.Binary(),
    "subject": polars.Binary(),
    "topic": polars.String(),
    "partition": polars.Int32(),
    "offset": polars.Int64(),
    "log_id": polars.Binary(),
    "recorded_at": _TIME,
    "occurred_at": _TIME,
    "effective_at": _TIME,
    "event_name": polars.String(),
    "event_version": polars.Int32(),
    "event_id": polars.String(),
    "test": polars.Boolean(),
    "unreadable": polars.String(),
    "elements": polars.Int64(),
    "states": _TEXTS,
    **{f"source_{name}": polars.String() for name in _SOURCE},
    **{column.name: _TEXTS if column.many else polars.String() for column in TYPED},
    "expires_at": _TIME,
    "flags": _TEXTS,
}
"""Every column of the table `facts`, in its order. Subject and log_id are 16 bytes."""


def columns_of_facts(facts: Sequence[bytes], nonce: bytes) -> polars.DataFrame:
    """COLUMNS of every fact, in order; ColumnsUnreadable if bytes are no fact of this release.

    `nonce` as for `consent.columns.decode_columns`.
    """
    return columns_of_envelopes(envelopes_of_facts(facts, nonce), facts, nonce)


def envelopes_of_facts(facts: Sequence[bytes], nonce: bytes) -> polars.DataFrame:
    """The fields of every fact, its payload undecoded; as `columns_of_facts` otherwise."""
    return decode_columns(fact_contract("Fact", 1), facts, nonce)


def columns_of_envelopes(
    envelopes: polars.DataFrame, facts: Sequence[bytes], nonce: bytes
) -> polars.DataFrame:
    """COLUMNS of facts whose envelopes are read already."""
    envelope = envelopes.with_columns(fact=polars.Series(facts, dtype=polars.Binary()))
    frames = []
    rows = polars.int_range(polars.len(), dtype=polars.Int64()).alias("row")
    keys = polars.struct("event_name", "event_version", polars.col("unreadable").is_null())
    for part in envelope.with_columns(rows, kind=keys).partition_by("kind"):
        payload = _unreadable_payload(part)
        if part.item(0, "unreadable") is None:
            payload = _payload(part, nonce)
        frames.append(polars.concat([_of_envelope(part, payload), payload], how="horizontal"))
    whole = frames[0] if len(frames) == 1 else polars.concat(frames, how="diagonal")
    # Facts that come type by type need no sorting, which is a tenth of the work.
    if not whole.get_column("row").is_sorted():
        whole = whole.sort("row")
    return whole.select(polars.col(name).cast(dtype) for name, dtype in COLUMNS.items())


def _of_envelope(part: polars.DataFrame, payload: polars.DataFrame) -> polars.DataFrame:
    occurred_at, recorded_at = payload.get_column("occurred_us"), polars.col("recorded_at")
    odd = (occurred_at < OCCURRED_AT_MIN_US) | (occurred_at > recorded_at + AHEAD_MAX_US)
    stated = payload.get_column("stated_states")
    return part.select(
        "row",
        "fact",
        polars.col("subject").fill_null(polars.lit(NO_SUBJECT)),
        "topic",
        "partition",
        "offset",
        "log_id",
        recorded_at.clip(TIME_MIN_US, TIME_MAX_US),
        occurred_at=occurred_at.clip(TIME_MIN_US, TIME_MAX_US),
        effective_at=polars.when(odd).then(recorded_at).otherwise(occurred_at),
        event_name=polars.col("event_name"),
        event_version=polars.col("event_version"),
        unreadable=polars.col("unreadable").fill_null(""),
        elements=polars.col("elements"),
        states=polars.when(stated.list.len() > 0)
        .then(stated)
        .otherwise(polars.col("derived_states")),
    )


def _payload(part: polars.DataFrame, nonce: bytes) -> polars.DataFrame:
    """Columns from the payloads of readable facts of one type."""
    kind = part.item(0, "event_name"), part.item(0, "event_version")
    if kind not in _event_types():
        raise ColumnsUnreadable("the fact is of an event that this release does not know")
    contract = fact_contract(*kind)
    present = {field["name"] for field in contract.schema["fields"]}
    chosen = {column: _chosen(column, present) for column in TYPED}
    wanted = {"event_id", "occurred_at", "test", "source", *chosen.values()} - {None}
    wanted |= {"states", "validity", *_EXPIRY, *FLAGS} & present
    names = [name for name in contract.parsed["fields"] if name["name"] in wanted]
    payloads = part.get_column("payload").to_list()
    frame = decode_columns(contract, payloads, nonce, [field["name"] for field in names])
    symbols = field_symbols(contract)
    source = frame.get_column("source").struct
    series = [
        frame.get_column("event_id"),
        frame.get_column("occurred_at").alias("occurred_us"),
        frame.get_column("test"),
        _stated_states(frame),
        *(_source(source.field(name), name) for name in _SOURCE),
    ]
    for column, name in chosen.items():
        if name is None:
            series.append(_absent(column, frame.height))
        else:
            series.append(_typed(column, frame.get_column(name), symbols.get(name, ())))
    series += [_expiry(frame), _flags(frame)]
    return polars.DataFrame(series)


def _unreadable_payload(part: polars.DataFrame) -> polars.DataFrame:
    """The same columns of unreadable facts: their broker time, and nothing else."""
    height = part.height
    return polars.DataFrame(
        [
            _empty_texts("event_id", height),
            part.get_column("recorded_at").alias("occurred_us"),
            polars.Series("test", [False]).new_from_index(0, height),
            _empty_lists("stated_states", height),
            *(_empty_texts(f"source_{name}", height) for name in _SOURCE),
            *(_absent(column, height) for column in TYPED),
            _no_time("expires_at", height),
            _empty_lists("flags", height),
        ]
    )


def _expiry(frame: polars.DataFrame) -> polars.Series:
    """Until when a grant or a permit holds by its own words; the epoch where it does not say."""
    name = next((name for name in _EXPIRY if name in frame.columns), None)
    if name is None:
        return _no_time("expires_at", frame.height)
    stated = frame.get_column(name)
    if "validity" in frame.columns and frame.get_column("validity").null_count() < frame.height:
        rows = frame.select("occurred_at", "validity", name).iter_rows()
        stated = polars.Series([_ends(*row) for row in rows], dtype=polars.Int64())
    return stated.fill_null(0).clip(TIME_MIN_US, TIME_MAX_US).alias("expires_at")


def _ends(at: int, validity: str | None, stated: int | None) -> int | None:
    if validity is None:
        return stated
    # As `consent.lifters` has it: a validity that can't be read has run out.
    end = after(at, validity)
    end = at if end is None else end
    return end if stated is None else min(stated, end)


def _flags(frame: polars.DataFrame) -> polars.Series:
    names = [name for name in FLAGS if name in frame.columns]
    said = [polars.when(polars.col(name)).then(polars.lit(name)).otherwise(None) for name in names]
    if not said or not frame.select(polars.any_horizontal(names).any()).item():
        return _empty_lists("flags", frame.height)
    return frame.select(flags=polars.concat_list(said).list.drop_nulls()).to_series()


def _no_time(name: str, height: int) -> polars.Series:
    return polars.Series(name, [0], dtype=polars.Int64()).new_from_index(0, height)


def _chosen(column: Typed, present: set[str]) -> str | None:
    return next((name for name in column.fields if name in present), None)


def _absent(column: Typed, height: int) -> polars.Series:
    return _empty_lists(column.name, height) if column.many else _empty_texts(column.name, height)


def _empty_lists(name: str, height: int) -> polars.Series:
    return polars.Series(name, [[]], dtype=_TEXTS).new_from_index(0, height)


def _empty_texts(name: str, height: int) -> polars.Series:
    return polars.Series(name, [""]).new_from_index(0, height)


def _typed(column: Typed, values: polars.Series, symbols: tuple[str, ...]) -> polars.Series:
    if isinstance(values.dtype, polars.List):
        texts = values.fill_null([])
        if symbols:
            texts = texts.list.eval(_symbol_of(polars.element(), symbols))
    elif values.dtype == polars.Binary():
        texts = values.bin.encode("hex").fill_null("")
    else:
        texts = _gathered(values, symbols) if symbols else values
        if column.many:
            return _as_lists(texts).alias(column.name)
        texts = texts.fill_null("")
    return texts.alias(column.name)


def _as_lists(texts: polars.Series) -> polars.Series:
    listed = texts.to_frame("text").select(
        polars.when(polars.col("text").is_null())
        .then(polars.lit([], dtype=_TEXTS))
        .otherwise(polars.concat_list("text"))
    )
    return listed.to_series()


def _symbol_of(index: polars.Expr, symbols: tuple[str, ...]) -> polars.Expr:
    kind = polars.Enum(symbols)
    return index.cast(polars.UInt8()).cat.to(kind).cast(polars.String())


def _gathered(indexes: polars.Series, symbols: tuple[str, ...]) -> polars.Series:
    return polars.Series(symbols, dtype=polars.String()).gather(indexes)


def _source(values: polars.Series, name: str) -> polars.Series:
    symbols = _source_symbols().get(name)
    return (_gathered(values, symbols) if symbols else values).alias(f"source_{name}")


def _stated_states(frame: polars.DataFrame) -> polars.Series:
    if "states" in frame.columns:
        return frame.get_column("states").fill_null([]).alias("stated_states")
    return _empty_lists("stated_states", frame.height)


@cache
def _source_symbols() -> dict[str, tuple[str, ...]]:
    fields = fact_contract("ConsentGranted", 1).schema["fields"]
    source = next(field["type"] for field in fields if field["name"] == "source")
    return {
        field["name"]: tuple(field["type"]["symbols"])
        for field in source["fields"]
        if isinstance(field["type"], dict)
    }


@cache
def _event_types() -> frozenset[tuple[str, int]]:
    """Name and version of every event that facts may be of."""
    paths = (data_path("schemas") / "facts").glob("*.v*.avsc")
    names = (path.name.removesuffix(".avsc").rpartition(".v") for path in paths)
    return frozenset((name, int(version)) for name, _, version in names if name != "Fact")


@cache
def fact_contract(name: str, version: int) -> RecordContract:
    """What `decode_columns` needs of a fact's schema; facts have no schema id on the wire."""
    path = data_path("schemas") / "facts" / f"{name}.v{version}.avsc"
    return RecordContract(
        name=name,
        version=version,
        topic="facts",
        schema_id=0,
        subject=f"facts-{NAMESPACE}.{name}",
        effect="neutral",
        schema=json.loads(path.read_text()),
        parsed=fact_schema(name, version),
    )
