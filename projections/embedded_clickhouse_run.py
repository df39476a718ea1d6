"""Runs one understood request on the engine, in the thread of a worker.

Owns the order of things: session, database, settings, the statement, and putting a session back
as it was. Knows nothing of HTTP beyond the reply it writes to.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from projections.embedded_clickhouse_engine import Connection, Counts, Engine
from projections.embedded_clickhouse_reply import ClientGone, Reply
from projections.embedded_clickhouse_request import QueryRequest
from projections.embedded_clickhouse_sessions import Session, Sessions
from projections.embedded_clickhouse_sql import Kind, Statement, read_statement
from projections.embedded_clickhouse_wire import ClickHouseError

# Formats whose blocks, encoded one by one, are together one valid result.
_CONCATENATED = frozenset(
    (
        "csv",
        "jsoncompacteachrow",
        "jsoneachrow",
        "jsonlines",
        "native",
        "ndjson",
        "raw",
        "rowbinary",
        "tabseparated",
        "tabseparatedraw",
        "tsv",
        "tsvraw",
    )
)
_ARROW = frozenset(("arrow", "arrowstream"))
_TAG_PREFIX = "embedded-front:"
_OWN_SETTINGS = ("log_comment", "input_format_values_interpret_expressions", "max_result_bytes")


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Bound of a result that can't be streamed, because of its format, in bytes of memory."""

    result_bytes_max: int = 512 * 1024**2


class Runner:
    """Runs requests; safe for any number of threads, each request in one of them."""

    def __init__(self, engine: Engine, sessions: Sessions, limits: RunLimits) -> None:
        self._engine = engine
        self._sessions = sessions
        self._limits = limits

    def run(self, request: QueryRequest, reply: Reply) -> None:
        """Run it and write the whole answer; never raises for what a client can cause."""
        statement = None
        try:
            statement = read_statement(request.head, request.body, request.query_bytes_max)
            _refuse_changes(request, statement)
            with self._connection(request, statement) as connection:
                counts = self._execute(connection, request, statement, reply)
            reply.finish(counts)
        except ClickHouseError as error:
            reply.fail(_as_a_server_says(error, request, statement))
        except ClientGone:
            pass

    def cancel(self, request: QueryRequest) -> None:
        """Cancel the statement of this request, if it runs."""
        self._engine.kill(_TAG_PREFIX + request.tag)

    def cancel_all(self) -> None:
        """Cancel every statement that runs."""
        self._engine.kill(_TAG_PREFIX)

    @contextmanager
    def _connection(self, request: QueryRequest, statement: Statement) -> Iterator[Connection]:
        """A connection as the request wants it; what a session keeps is put back afterwards."""
        wanted = request.session
        if wanted is None:
            connection = self._engine.connect()
            try:
                self._prepare(connection, request, statement)
                yield connection
            finally:
                connection.close()
            return
        session = self._sessions.enter(
            wanted.name, wanted.timeout_s, wanted.must_exist, time.monotonic()
        )
        try:
            with self._of_session(session, request, statement) as connection:
                yield connection
        finally:
            self._sessions.leave(session, time.monotonic(), close=wanted.close)

    @contextmanager
    def _of_session(
        self, session: Session, request: QueryRequest, statement: Statement
    ) -> Iterator[Connection]:
        connection = session.connection or self._engine.connect()
        if session.connection is None and not statement.changes_session:
            try:
                self._prepare(connection, request, statement)
                yield connection
            finally:
                connection.close()
            return
        session.connection = connection
        names = [name for name in request.settings if not name.startswith("param_")]
        settings = connection.snapshot([*names, *_OWN_SETTINGS])
        database = connection.database()
        try:
            self._prepare(connection, request, statement, within_session=True)
            yield connection
        finally:
            try:
                connection.run(f"SET {settings}")
                connection.use(connection.database() if statement.changes_database else database)
            except ClickHouseError:
                # Its database was dropped, say. Such a session can only begin anew.
                session.connection = None
                connection.close()

    def _prepare(
        self,
        connection: Connection,
        request: QueryRequest,
        statement: Statement,
        within_session: bool = False,
    ) -> None:
        if request.database:
            connection.use(request.database)
        extra = {"log_comment": _TAG_PREFIX + request.tag}
        if statement.plain_values:
            extra["input_format_values_interpret_expressions"] = "0"
        if statement.kind is Kind.SELECT and not _streams(request, statement):
            extra["max_result_bytes"] = _smaller(
                request.settings.get("max_result_bytes"), self._limits.result_bytes_max
            )
        # A session could not be put back behind it: there our own check has to do.
        if request.readonly != "0" and not within_session:
            extra["readonly"] = request.readonly
        connection.apply({**request.settings, **extra})

    def _execute(
        self, connection: Connection, request: QueryRequest, statement: Statement, reply: Reply
    ) -> Counts:
        zone = request.settings.get("session_timezone")
        if statement.kind is Kind.INSERT_DATA:
            reply.describe(None, zone)
            format_name = statement.format_name or "Values"
            return connection.insert(statement.sql, format_name, statement.data)
        connection.refuse_multiple(statement.sql)
        format_name = statement.format_name or request.default_format
        reply.describe(None if statement.kind is Kind.CHANGE else format_name, zone)
        if _streams(request, statement):
            return _stream(connection, request, statement, reply)
        answer = connection.run(statement.sql, request.default_format)
        reply.write(answer.data)
        return answer.counts


def _stream(
    connection: Connection, request: QueryRequest, statement: Statement, reply: Reply
) -> Counts:
    """Write the result as it comes."""
    format_name = (statement.format_name or request.default_format).lower()
    blocks = connection.stream(statement.sql, request.default_format)
    try:
        for piece in _joined_arrow(iter(blocks), format_name) if format_name in _ARROW else blocks:
            reply.write(piece)
    finally:
        blocks.close()
    return blocks.counts()


def _streams(request: QueryRequest, statement: Statement) -> bool:
    name = (statement.format_name or request.default_format).lower()
    plain = request.settings.get("extremes", "0") in ("0", "false")
    dictionary = "output_format_arrow_low_cardinality_as_dictionary" in request.settings
    return (
        statement.kind is Kind.SELECT
        and plain
        and not statement.has_totals
        and (name in _CONCATENATED or (name in _ARROW and not dictionary))
    )


def _refuse_changes(request: QueryRequest, statement: Statement) -> None:
    changes = statement.kind in (Kind.CHANGE, Kind.INSERT_DATA) and not statement.changes_session
    if request.readonly != "0" and changes:
        raise ClickHouseError(
            164,
            "READONLY",
            "Cannot execute query in readonly mode. For queries over HTTP, method GET implies "
            "readonly. You should use method POST for modifying queries",
        )


def _as_a_server_says(
    error: ClickHouseError, request: QueryRequest, statement: Statement | None
) -> ClickHouseError:
    """The embedded engine lays its database `default` over files, which it is not allowed to read.

    It says so for every table that is not there; clients must hear what they would of a server.
    """
    denied = error.name == "ACCESS_DENIED" and "grant READ ON FILE" in error.detail
    if not denied or request.database not in ("", "default") or statement is None:
        return error
    if statement.kind in (Kind.SELECT, Kind.READ):
        return ClickHouseError(60, "UNKNOWN_TABLE", "Unknown table in database `default`.")
    hint = "The embedded engine keeps no tables in database `default`: create a database."
    return ClickHouseError(error.code, error.name, hint)


def _smaller(asked: str | None, limit: int) -> str:
    if asked is None or not asked.isdecimal() or int(asked) == 0:
        return str(limit)
    return str(min(int(asked), limit))


def _joined_arrow(blocks: Iterator[bytes], format_name: str) -> Iterator[bytes]:
    """One Arrow file or stream out of blocks that each are one; a single block stays as it is."""
    first, second = next(blocks, None), next(blocks, None)
    if first is None:
        return
    if second is None:
        yield first
        return
    as_file = format_name == "arrow"
    sink = _Sink()
    writer = None
    for block in itertools.chain((first, second), blocks):
        table = (pa.ipc.open_file if as_file else pa.ipc.open_stream)(block).read_all()
        if writer is None:
            writer = (pa.ipc.new_file if as_file else pa.ipc.new_stream)(sink, table.schema)
        writer.write_table(table)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


class _Sink(io.RawIOBase):
    """What was written since it was last taken; positions go on, the writer counts on them."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
