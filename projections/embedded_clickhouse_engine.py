"""The ClickHouse engine inside this process: connections, queries, streams, inserts.

Owns `chdb`. What it does in parallel was tried, not assumed: any number of connections of one
process may run statements at once from different threads, each statement outside the GIL; an
insert never blocks a read, for parts are immutable and a read works on the parts that were active
when it began. One connection runs one statement at a time. Opening one takes 0.1 ms, so each
request gets its own, and with it its own settings, database and temporary tables. Cancelling a
stream from another thread hangs; KILL QUERY from another connection does not, so that is used.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from projections.embedded_clickhouse_wire import ClickHouseError, error_from_text

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_MULTIPLE = (62, "SYNTAX_ERROR", "Multi-statements are not allowed")

# Everything that a ledger and its auditor need; no files, network, processes, users, shutdown.
_GRANTS = (
    "GRANT SHOW, SELECT, INSERT, ALTER, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, dictGet, "
    "CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, CREATE FUNCTION, "
    "KILL QUERY, SYSTEM MERGES, SYSTEM CLEANUP, SYSTEM FLUSH, SYSTEM DROP CACHE ON *.*",
    "GRANT TABLE ENGINE ON *",
)


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of the engine as a whole, in bytes and threads."""

    memory_bytes_max: int = 2 * 1024**3
    query_memory_bytes_max: int = 1024**3
    mark_cache_bytes_max: int = 128 * 1024**2
    background_threads: int = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """What a statement read and wrote."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole result in its output format, with its counts."""

    data: bytes
    counts: Counts


class Engine:
    """One engine on one directory; `open` it before use, `close` it once, from any thread.

    Data are durable when a statement returns: parts and directories are fsynced by default. A
    killed process leaves whole parts or none. A second engine on the directory is refused by
    ClickHouse itself; the front refuses it earlier and more clearly.
    """

    def __init__(self, directory: Path, limits: EngineLimits) -> None:
        self._directory = directory.absolute()
        self._limits = limits
        self._module: Any = None
        self._anchor: Any = None
        self.version = ""
        self.timezone = ""

    def open(self) -> None:
        """Start the engine; takes a second, longer with many parts.

        The engine's own zone is UTC whatever the machine's is: that of a DateTime must not
        depend on where the data directory was opened.
        """
        if "?" in str(self._directory):
            raise ClickHouseError(36, "BAD_ARGUMENTS", "The data path must not contain '?'")
        os.environ["TZ"] = "UTC"
        self._module = importlib.import_module("chdb._chdb")
        (self._directory / "data").mkdir(parents=True, exist_ok=True)
        configuration = self._write_configuration()
        try:
            self._anchor = self._module.connect(
                f"{self._directory / 'data'}?config-file={configuration}"
            )
        except RuntimeError as refused:
            raise error_from_text(str(refused)) from None
        row = self._anchor.query("SELECT version(), timezone()", "TabSeparated").bytes()
        self.version, self.timezone = row.decode().rstrip("\n").split("\t")

    def connect(self) -> Connection:
        """A connection of its own; the caller closes it."""
        return Connection(self._module.connect(str(self._directory / "data")))

    def kill(self, prefix: str) -> None:
        """Cancel statements whose `log_comment` begins so; returns at once, none is no error."""
        mine = f"startsWith(Settings['log_comment'], {quoted(prefix)})"
        connection = self.connect()
        try:
            connection.run(f"KILL QUERY WHERE {mine} ASYNC")
        finally:
            connection.close()

    def close(self) -> None:
        """Stop the engine, when the last connection is closed as well."""
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def _write_configuration(self) -> Path:
        limits = self._limits
        folder = self._directory / "configuration"
        folder.mkdir(exist_ok=True)
        users = folder / "users.xml"
        grants = "".join(f"<query>{escape(grant)}</query>" for grant in _GRANTS)
        users.write_text(
            "<clickhouse><profiles><default>"
            "<async_insert>0</async_insert><implicit_select>0</implicit_select>"
            "<output_format_arrow_compression_method>none</output_format_arrow_compression_method>"
            f"<max_memory_usage>{limits.query_memory_bytes_max}</max_memory_usage>"
            "</default></profiles><quotas><default/></quotas><users><default><password/>"
            "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
            f"<grants>{grants}</grants></default></users></clickhouse>\n"
        )
        configuration = folder / "config.xml"
        configuration.write_text(
            f"<clickhouse><users_config>{escape(str(users))}</users_config>"
            f"<user_files_path>{escape(str(folder / 'user_files'))}/</user_files_path>"
            f"<max_server_memory_usage>{limits.memory_bytes_max}</max_server_memory_usage>"
            f"<mark_cache_size>{limits.mark_cache_bytes_max}</mark_cache_size>"
            f"<background_pool_size>{limits.background_threads}</background_pool_size>"
            "<merge_tree><fsync_after_insert>1</fsync_after_insert>"
            "<fsync_part_directory>1</fsync_part_directory></merge_tree></clickhouse>\n"
        )
        return configuration


class Connection:
    """One session of the engine. Not safe for two threads at once; close it when done.

    Every method raises ClickHouseError with the engine's code, name and text.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def apply(self, settings: Mapping[str, str]) -> None:
        """Set settings of this session, all or none; query parameters are `param_` settings."""
        if not settings:
            return
        for name in settings:
            if not _SETTING_NAME.fullmatch(name):
                raise ClickHouseError(115, "UNKNOWN_SETTING", f"Unknown setting {quoted(name)}")
        assignments = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        self.run(f"SET {assignments}".encode("utf-8", "surrogateescape"))

    def use(self, database: str) -> None:
        """Make it the database of unqualified names; error 81 when there is none such."""
        self.run(f"USE {quoted_name(database)}")

    def snapshot(self, names: Iterable[str]) -> str:
        """SQL that gives these settings the values and defaults that they have now."""
        listed = ", ".join(quoted(name) for name in names) or "''"
        rows = self.run(
            "SELECT name, value, changed FROM system.settings "  # noqa: S608 - quoted
            f"WHERE name IN ({listed}) FORMAT JSONCompactEachRow"
        ).data
        return ", ".join(
            f"{name} = {quoted(value) if changed else 'DEFAULT'}"
            for name, value, changed in (json.loads(row) for row in rows.splitlines())
        )

    def database(self) -> str:
        """The database of unqualified names."""
        return self.run("SELECT currentDatabase()").data.decode().rstrip("\n")

    def run(self, sql: str | bytes, format_name: str = "TabSeparated") -> Answer:
        """Run one statement and return its whole result; INSERTs bring their data in the text."""
        try:
            result = self._raw.query(sql, format_name)
        except RuntimeError as failed:
            raise error_from_text(str(failed)) from None
        return Answer(
            result.bytes(),
            Counts(
                read_rows=result.storage_rows_read(),
                read_bytes=result.storage_bytes_read(),
                written_rows=result.rows_written(),
                written_bytes=result.bytes_written(),
                result_rows=result.rows_read(),
            ),
        )

    def refuse_multiple(self, sql: bytes) -> None:
        """Raise when the text holds more than one statement, before any of it ran."""
        try:
            count = self._raw.classify_query(sql.decode("utf-8", "surrogateescape"))[
                "statement_count"
            ]
        except UnicodeEncodeError:
            # A binary literal can't cross to the parser as text; only its length matters here.
            count = self._raw.classify_query(sql.decode("latin-1"))["statement_count"]
        if count > 1:
            raise ClickHouseError(*_MULTIPLE)

    def stream(self, sql: bytes, format_name: str) -> BlockStream:
        """Results of a SELECT block by block, each encoded on its own, in bounded memory."""
        return BlockStream(self._raw, sql, format_name)

    def insert(self, sql: bytes, format_name: str, data: bytes) -> Counts:
        """Insert data of a format; `sql` ends before FORMAT. Nothing is written on an error.

        One part for each table partition, so long as the rows stay below `max_insert_block_size`.
        """
        try:
            handle = self._raw.send_insert(sql.decode(), format_name)
        except RuntimeError as failed:
            raise error_from_text(str(failed)) from None
        try:
            if data:
                self._raw.insert_append(handle, data)
            done = self._raw.insert_done(handle)
        except RuntimeError as failed:
            raise error_from_text(str(failed)) from None
        return Counts(written_rows=done.rows_written(), written_bytes=done.bytes_written())

    def close(self) -> None:
        """End the session and drop its temporary tables."""
        self._raw.close()


class BlockStream:
    """Blocks of one SELECT, in order. Close it: that ends the query.

    An empty result has one block with names and types where the format has a place for them, else
    none.
    """

    def __init__(self, raw: Any, sql: bytes, format_name: str) -> None:
        self._raw = raw
        self._progress: dict[str, int] = {}
        self._result_rows = 0
        self._ended = False
        raw.set_progress_callback(self._progress.update)
        try:
            self._handle = raw.send_query(sql, format_name)
        except RuntimeError as failed:
            raise error_from_text(str(failed)) from None

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended:
            try:
                block = self._raw.streaming_fetch_result(self._handle)
            except RuntimeError as failed:
                self._ended = True
                raise error_from_text(str(failed)) from None
            self._ended = block.rows_read() == 0
            self._result_rows += block.rows_read()
            data = block.bytes()
            if data:
                yield data

    def counts(self) -> Counts:
        """What was read so far."""
        return Counts(
            read_rows=self._progress.get("read_rows", 0),
            read_bytes=self._progress.get("read_bytes", 0),
            result_rows=self._result_rows,
        )

    def close(self) -> None:
        """Cancel what has not been read."""
        if not self._ended:
            self._ended = True
            self._raw.streaming_cancel_query(self._handle)


def quoted(text: str) -> str:
    """A string literal of ClickHouse's SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quoted_name(name: str) -> str:
    """An identifier of ClickHouse's SQL."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
