"""The ledger's one way to ClickHouse: rows and Arrow out, Arrow in, errors in our families.

Owns the settings that make an insert safe to repeat, the bounds on time, and the check that the
server deserves the history. Retries nothing: who called knows whether to. Parameters travel in the
body of a request, never in its URL, and no error shows a statement, an URL or a value when it is
printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
import urllib3
from clickhouse_connect.driver.exceptions import Error as ClientError
from clickhouse_connect.driver.httpclient import HttpClient
from clickhouse_connect.driver.httputil import get_pool_manager

from projections.errors import StoreRejected, StoreUnavailable, StoreUnsafe

Scalar = str | int | float | bool | None
Parameters = Mapping[str, Any]
Settings = Mapping[str, Scalar]

VERSION_MIN = (25, 8)

# Errors that pass: load, time-outs, lost peers, a full disk, a replica without its keeper.
_PASSING = frozenset(
    (
        "ABORTED",
        "ALL_CONNECTION_TRIES_FAILED",
        "CANNOT_SCHEDULE_TASK",
        "DEADLOCK_AVOIDED",
        "KEEPER_EXCEPTION",
        "MEMORY_LIMIT_EXCEEDED",
        "NETWORK_ERROR",
        "NOT_ENOUGH_SPACE",
        "NO_ZOOKEEPER",
        "QUERY_WAS_CANCELLED",
        "REPLICA_IS_NOT_IN_QUORUM",
        "SOCKET_TIMEOUT",
        "TABLE_IS_READ_ONLY",
        "TIMEOUT_EXCEEDED",
        "TOO_FEW_LIVE_REPLICAS",
        "TOO_MANY_PARTS",
        "TOO_MANY_SIMULTANEOUS_QUERIES",
        "UNKNOWN_STATUS_OF_INSERT",
        "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    )
)


@dataclass(frozen=True, slots=True)
class StoreParameters:
    """Where the store is and how long to wait for it.

    `url` is `http://host:port` or `https://host:port`. A statement is ended by the server at its
    time-out; `read_grace_ms` later it is given up. `rows_max` bounds one insert, so that it stays
    one block and thereby one part. `compress` pays off beyond one machine only.
    """

    url: str
    database: str = "ledger"
    username: str = "default"
    password: str = field(default="", repr=False)
    connect_timeout_ms: int = 5_000
    query_timeout_ms: int = 30_000
    insert_timeout_ms: int = 30_000
    read_grace_ms: int = 5_000
    rows_max: int = 1_000_000
    connections_max: int = 8
    compress: bool = False


class Store:
    """A connected store; safe for several threads, each call uses its own connection.

    `connect` makes one; `close` it when done. Every call raises StoreUnavailable when doing the
    same again may help, StoreRejected when it can't.
    """

    def __init__(self, client: Any, parameters: StoreParameters, pool: urllib3.PoolManager) -> None:
        self._client = client
        self._parameters = parameters
        self._pool = pool

    @classmethod
    def connect(cls, parameters: StoreParameters) -> Store:
        """Connect, which asks the server for its version and settings; the database need not exist.

        Raises StoreUnavailable when nobody answers, StoreRejected for wrong credentials.
        """
        address = urlsplit(parameters.url)
        pool = get_pool_manager(maxsize=parameters.connections_max, retries=0)
        statement_ms = max(parameters.query_timeout_ms, parameters.insert_timeout_ms)
        read_s = (statement_ms + parameters.read_grace_ms) / 1000
        with _translated("connect"):
            client = clickhouse_connect.get_client(
                interface=address.scheme,
                host=address.hostname or "",
                port=address.port or (8443 if address.scheme == "https" else 8123),
                username=parameters.username,
                password=parameters.password,
                compress=parameters.compress,
                connect_timeout=math.ceil(parameters.connect_timeout_ms / 1000),
                send_receive_timeout=math.ceil(read_s),
                query_retries=0,
                client_name="consent-ledger",
                autogenerate_session_id=False,
                form_encode_query_params=True,
                tz_mode="aware",
                pool_mgr=pool,
            )
        http = cast(HttpClient, client)
        http.http_retries = 0
        http.timeout = urllib3.Timeout(connect=parameters.connect_timeout_ms / 1000, read=read_s)
        client.database = parameters.database
        return cls(client, parameters, pool)

    @property
    def database(self) -> str:
        """Name of the ledger's database."""
        return self._parameters.database

    @property
    def version(self) -> str:
        """Version of the server, such as `26.9.2.1`."""
        return str(self._client.server_version)

    def query_rows(
        self,
        query: str,
        parameters: Parameters | None = None,
        settings: Settings | None = None,
        formats: Mapping[str, str] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Rows of a SELECT, in its order; parameters are written `{name:Type}`.

        Times come with their zone. String columns come as `str`; where they hold bytes that are
        no UTF-8, pass `formats={"String": "bytes"}`.
        """
        with _translated("query"):
            result = self._client.query(
                query,
                parameters=dict(parameters or {}),
                settings=self._query_settings(settings),
                query_formats=dict(formats) if formats else None,
            )
            return [tuple(row) for row in result.result_rows]

    def query_arrow(
        self,
        query: str,
        parameters: Parameters | None = None,
        settings: Settings | None = None,
        strings_as_bytes: bool = False,
    ) -> pa.Table:
        """The result of a SELECT as an Arrow table, whole in memory; types as the server maps them.

        String columns are `string`, or `binary` when `strings_as_bytes`.
        """
        with _translated("query"):
            return self._client.query_arrow(
                query,
                parameters=dict(parameters or {}),
                settings=self._query_settings(settings),
                use_strings=not strings_as_bytes,
            )

    def insert_arrow(
        self, table: str, rows: pa.Table, token: str, settings: Settings | None = None
    ) -> None:
        """Insert rows as one block; on return they are stored, or were, under the same token.

        Columns are matched by name, the others get their defaults. Same token, same rows, inside
        the table's window: stored once, however often this is called; after StoreUnavailable the
        outcome is unknown, so call again. Same token with other rows loses the other rows.
        Raises ValueError for no token or for more rows than one block may have.
        """
        if not token:
            raise ValueError("an insert needs a deduplication token")
        if rows.num_rows > self._parameters.rows_max:
            raise ValueError(f"{rows.num_rows} rows, {self._parameters.rows_max} allowed at once")
        if rows.num_rows == 0:
            return
        with _translated("insert"):
            self._client.insert_arrow(
                f"{_quoted_name(self.database)}.{_quoted_name(table)}",
                rows.combine_chunks(),
                settings={**self._insert_settings(token), **(settings or {})},
            )

    def insert_temporary(self, table: str, rows: pa.Table, session_id: str) -> None:
        """Insert rows into a temporary table of a session, which some call with it has made.

        Nothing of it is kept, so there is no token: a call that failed leaves a table to be left.
        """
        with _translated("insert"):
            self._client.insert_arrow(table, rows, settings={"session_id": session_id})

    def command(
        self, statement: str, settings: Settings | None = None, use_database: bool = True
    ) -> str | int | list[str]:
        """Run one statement that returns little or nothing; its answer, or an empty text.

        Takes no parameters: they would travel in the URL. Without `use_database` it runs before
        the ledger's database exists.
        """
        with _translated("command"):
            answer = self._client.command(
                statement, settings=self._query_settings(settings), use_database=use_database
            )
        if isinstance(answer, str | int):
            return answer
        return [str(part) for part in answer] if isinstance(answer, list | tuple) else ""

    def ping(self) -> bool:
        """Whether the server answers now; never raises."""
        return bool(self._client.ping(timeout=self._parameters.connect_timeout_ms / 1000))

    def check_server(self, tables: Sequence[str] = ()) -> None:
        """Raise StoreUnsafe unless server and tables keep what they acknowledge and count it once.

        Looks at the version, at whether the settings of an insert may be sent, and for each table
        at its deduplication window and at its fsyncs. Names every problem, not only the first.
        """
        problems = [*self._version_problems(), *self._setting_problems()]
        for table in tables:
            problems += self._table_problems(table)
        if problems:
            raise StoreUnsafe(tuple(problems))

    def close(self) -> None:
        """Close the connections; calls that still run fail."""
        self._client.close()
        self._pool.clear()

    def _query_settings(self, settings: Settings | None) -> dict[str, Scalar]:
        return {"max_execution_time": self._parameters.query_timeout_ms / 1000, **(settings or {})}

    def _insert_settings(self, token: str) -> dict[str, Scalar]:
        settings: dict[str, Scalar] = {
            "async_insert": 0,
            "insert_deduplicate": 1,
            "insert_deduplication_token": token,
            "max_execution_time": self._parameters.insert_timeout_ms / 1000,
        }
        # Newer servers decide by this one for all inserts; older ones refuse the name.
        if "deduplicate_insert" in self._client.server_settings:
            settings["deduplicate_insert"] = "enable"
        return settings

    def _version_problems(self) -> Iterator[str]:
        parts = self.version.split(".")[:2]
        if not all(part.isdecimal() for part in parts) or tuple(map(int, parts)) < VERSION_MIN:
            wanted = ".".join(map(str, VERSION_MIN))
            yield f"version {self.version} is older than {wanted}"

    def _setting_problems(self) -> Iterator[str]:
        for name in ("async_insert", "insert_deduplicate", "insert_deduplication_token"):
            definition = self._client.server_settings.get(name)
            if definition is None:
                yield f"setting {name} is unknown to the server"
            elif int(definition.readonly):
                yield f"setting {name} may not be changed by this user"

    def _table_problems(self, table: str) -> Iterator[str]:
        found = self.query_rows(
            "SELECT engine, engine_full FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": self.database, "table": table},
        )
        if not found:
            yield f"table {table} does not exist"
            return
        engine, definition = found[0]
        if not engine.endswith("MergeTree"):
            yield f"table {table} has engine {engine}, which does not keep what it acknowledges"
            return
        replicated = engine.startswith(("Replicated", "Shared"))
        wanted = (
            ("replicated_deduplication_window",)
            if replicated
            else (
                "non_replicated_deduplication_window",
                "fsync_after_insert",
                "fsync_part_directory",
            )
        )
        defaults = dict(
            self.query_rows(
                "SELECT name, value FROM system.merge_tree_settings "
                "WHERE name IN {names:Array(String)}",
                {"names": list(wanted)},
            )
        )
        for name in wanted:
            if _table_setting(definition, name, defaults.get(name, "0")) in ("0", "false"):
                yield f"table {table} has {name} = 0"


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    """Turn the client's errors into ours; without a cause, whose text may hold URL and values."""
    try:
        yield
    except ClientError as error:
        raise _translation(operation, error) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreUnavailable(operation, type(error).__name__) from None


def _translation(operation: str, error: ClientError) -> StoreUnavailable | StoreRejected:
    code, name = error.code or 0, error.name or ""
    if name in _PASSING:
        return StoreUnavailable(operation, "it asks to be tried again", code, name)
    if code:
        return StoreRejected(operation, code, name, str(error))
    cause = error.__cause__ or error
    # The reason behind a retry that was not made says more, and neither text is safe to show.
    return StoreUnavailable(operation, type(getattr(cause, "reason", None) or cause).__name__)


def _table_setting(definition: str, name: str, default: str) -> str:
    """Value of a setting in a table's definition, which ends with `SETTINGS a = 1, b = 2`."""
    _, _, clause = definition.partition(" SETTINGS ")
    for assignment in clause.split(","):
        key, _, value = assignment.partition("=")
        if key.strip() == name:
            return value.strip()
    return default


def _quoted_name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
