"""The front as a process: kill -9, a second one, stopping, limits, many clients at once."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pytest

from projections.clickhouse import Store, StoreParameters
from projections.errors import StoreRejected, StoreUnavailable
from tests.stores import RunningFront, run_to_its_end, start_front

DEADLINE_S = 30.0
BLOCK_ROWS = 5_000
KILLS = 4


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., RunningFront]:
    """Starts fronts with these arguments on fresh directories; they are stopped at the end."""
    fronts: list[RunningFront] = []

    def start(*arguments: str) -> RunningFront:
        name = f"front-{len(fronts)}"
        front = start_front(tmp_path / name, tmp_path / f"{name}.log", arguments)
        fronts.append(front)
        return front

    yield start  # type: ignore[misc]
    for front in fronts:
        front.kill()


def connected(front: RunningFront, **parameters: str) -> Store:
    """A store on the front, with its database."""
    store = Store.connect(StoreParameters(url=front.url, **parameters))  # type: ignore[arg-type]
    store.command("CREATE DATABASE IF NOT EXISTS ledger", use_database=False)
    return store


def request(
    front: RunningFront, method: str = "POST", body: bytes = b"", **parameters: str
) -> tuple[int, bytes]:
    """Status and body of one plain HTTP request."""
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=DEADLINE_S)
    try:
        connection.request(method, f"/?{urlencode(parameters)}", body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def await_condition(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def block(number: int) -> pa.Table:
    """Rows of the block with this number."""
    first = number * BLOCK_ROWS
    return pa.table(
        {
            "block": pa.array([number] * BLOCK_ROWS, pa.uint32()),
            "row": pa.array(range(first, first + BLOCK_ROWS), pa.uint64()),
        }
    )


@pytest.mark.fault
def test_kill_nine_during_inserts_loses_and_doubles_nothing(
    started: Callable[..., RunningFront],
) -> None:
    """After kills at any moment every block is there whole or not at all, and a retry of its token
    makes it exactly once.
    """
    front = started()
    store = connected(front)
    store.command(
        "CREATE TABLE t (block UInt32, row UInt64) ENGINE = MergeTree ORDER BY row "
        "SETTINGS non_replicated_deduplication_window = 1000"
    )
    moments = random.Random(20_261_122)
    acknowledged = 0
    for _ in range(KILLS):
        timer = threading.Timer(moments.uniform(0.05, 0.6), front.kill)
        timer.start()
        with pytest.raises(StoreUnavailable):
            while True:
                store.insert_arrow("t", block(acknowledged), f"block-{acknowledged}")
                acknowledged += 1
        timer.join()
        front.restart()
        counts = dict(store.query_rows("SELECT block, count() FROM t GROUP BY block"))
        assert set(counts.values()) <= {BLOCK_ROWS}, "a block is there in part or twice"
        assert set(range(acknowledged)) <= set(counts), "an acknowledged block is gone"
    store.insert_arrow("t", block(acknowledged), f"block-{acknowledged}")
    rows = store.query_rows("SELECT count(), uniqExact(row), max(row) FROM t")
    total = (acknowledged + 1) * BLOCK_ROWS
    assert rows == [(total, total, total - 1)]
    assert acknowledged > 0


def test_a_second_process_on_the_directory_is_refused(
    started: Callable[..., RunningFront],
) -> None:
    """Who comes second is told who holds the data, touches nothing, and ends with 3."""
    front = started()
    refused = run_to_its_end(front.data_dir, ("--port", "0"))
    assert refused.returncode == 3
    assert f"in use by process {front.process.pid}" in refused.stderr
    assert request(front, body=b"SELECT 1") == (200, b"1\n")


def test_a_taken_port_is_refused(started: Callable[..., RunningFront], tmp_path: Path) -> None:
    """A port that is taken is named, before any data are opened."""
    front = started()
    refused = run_to_its_end(tmp_path / "other", ("--port", str(front.port)))
    assert refused.returncode == 3
    assert f"cannot listen on 127.0.0.1:{front.port}" in refused.stderr
    assert not (tmp_path / "other" / "data").exists()


def test_stopping_ends_statements_and_keeps_data(started: Callable[..., RunningFront]) -> None:
    """SIGTERM ends the process with 0 while statements run; what was inserted is there again."""
    front = started()
    store = connected(front)
    store.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    store.insert_arrow("t", pa.table({"a": pa.array([1, 2], pa.uint8())}), "token")
    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(request, front, body=b"SELECT sum(number) FROM system.numbers")
        await_condition(lambda: "system.numbers" in str(running(front)))
        assert front.stop() == 0
        assert b"QUERY_WAS_CANCELLED" in endless.result()[1]
    front.restart()
    assert request(front, body=b"SELECT sum(a) FROM ledger.t") == (200, b"3\n")


def running(front: RunningFront) -> list[bytes]:
    """Statements that run, but for the one that asks."""
    _, body = request(
        front, body=b"SELECT query FROM system.processes WHERE query NOT LIKE '%system.processes%'"
    )
    return body.splitlines()


def test_password(started: Callable[..., RunningFront], tmp_path: Path) -> None:
    """With a password only who knows it may ask; the greeting needs none."""
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    front = started("--user", "auditor", "--password-file", str(secret))
    assert request(front, body=b"SELECT 1")[0] == 403
    with pytest.raises(StoreRejected) as refused:
        connected(front, username="auditor", password="wrong")
    assert refused.value.name == "AUTHENTICATION_FAILED"
    store = connected(front, username="auditor", password="open sesame")
    assert store.command("SELECT 1") == 1
    assert store.ping()


def test_large_bodies_are_refused(started: Callable[..., RunningFront]) -> None:
    """A body over the limit is refused with ClickHouse's error, packed or not."""
    front = started("--body-bytes-max", "100000")
    status, body = request(front, body=b"x" * 100_001, query="INSERT INTO t FORMAT CSV")
    assert (status, b"QUERY_IS_TOO_LARGE" in body) == (413, True)
    assert request(front, body=b"SELECT 1")[0] == 200


def test_slow_statements_are_ended(started: Callable[..., RunningFront]) -> None:
    """A statement runs no longer than the limit, whatever the client asks for."""
    front = started("--query-timeout-ms", "300")
    statement = b"SELECT sum(number) FROM system.numbers"
    for asked in ("0", "1000"):
        status, body = request(front, body=statement, max_execution_time=asked)
        assert (status, b"TIMEOUT_EXCEEDED" in body) == (408, True)


def test_inserts_do_not_keep_reads_waiting(started: Callable[..., RunningFront]) -> None:
    """While every place for inserts is taken and more of them wait, a read is answered."""
    front = started("--changes-max", "1", "--waiting-max", "2", "--wait-timeout-ms", "20000")
    store = connected(front)
    store.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    slow = (
        b"INSERT INTO ledger.t SELECT sleepEachRow(0.2) FROM numbers(6) SETTINGS max_block_size = 1"
    )
    with ThreadPoolExecutor(3) as threads:
        inserts = [threads.submit(request, front, body=slow) for _ in range(2)]
        await_condition(lambda: any(b"INSERT" in statement for statement in running(front)))
        assert request(front, body=b"SELECT 1") == (200, b"1\n")
        assert not all(insert.done() for insert in inserts)
        assert all(insert.result()[0] == 200 for insert in inserts)


def test_a_full_queue_says_so(started: Callable[..., RunningFront]) -> None:
    """When nothing comes free in time a statement is refused, and may be asked again."""
    front = started("--reads-max", "1", "--wait-timeout-ms", "200", "--query-timeout-ms", "3000")
    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(request, front, body=b"SELECT sum(number) FROM system.numbers")
        refusals: list[tuple[int, bytes]] = []

        def refused() -> bool:
            refusals.append(request(front, body=b"SELECT 1"))
            return refusals[-1][0] == 503

        await_condition(refused)
        assert b"TOO_MANY_SIMULTANEOUS_QUERIES" in refusals[-1][1]
        assert endless.result()[0] == 408


def test_reads_of_clients_that_go_away_are_ended(started: Callable[..., RunningFront]) -> None:
    """A read is cancelled when its client disconnects, if it asked for that; GET always asks."""
    front = started()
    for method, path in (
        ("GET", "/?" + urlencode({"query": "SELECT sum(number) FROM system.numbers"})),
        ("POST", "/?cancel_http_readonly_queries_on_client_close=1"),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=DEADLINE_S)
        body = b"SELECT sum(number) FROM system.numbers" if method == "POST" else None
        connection.request(method, path, body)
        await_condition(lambda: len(running(front)) == 1)
        connection.close()
        await_condition(lambda: not running(front))


def test_a_client_that_stops_reading_stops_the_query(
    started: Callable[..., RunningFront],
) -> None:
    """A result that nobody reads waits at its source, not in memory, and goes with its client."""
    front = started()
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=DEADLINE_S)
    connection.request("POST", "/", b"SELECT toString(number) FROM system.numbers FORMAT TSV")
    response = connection.getresponse()
    assert response.read(10)
    seen = [rows_read(front)]

    def stands_still() -> bool:
        time.sleep(0.2)
        seen.append(rows_read(front))
        return seen[-1] == seen[-2]

    await_condition(stands_still, deadline_s=5)
    connection.close()
    response.close()
    await_condition(lambda: not running(front))


def rows_read(front: RunningFront) -> int:
    """Rows that the running statement has read."""
    query = b"SELECT max(read_rows) FROM system.processes WHERE query NOT LIKE '%processes%'"
    return int(request(front, body=query)[1])


def test_many_clients_at_once(clickhouse_front: RunningFront, store: Store) -> None:
    """Readers and writers together: every insert is counted once, no read fails or sees a part."""
    store.command(
        "CREATE TABLE t (block UInt32, row UInt64) ENGINE = MergeTree ORDER BY row "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    blocks = 24

    def insert(number: int) -> None:
        store.insert_arrow("t", block(number), f"block-{number}")

    def read(_: int) -> None:
        rows = store.query_rows("SELECT block, count() FROM t GROUP BY block")
        assert all(count == BLOCK_ROWS for _, count in rows)

    with ThreadPoolExecutor(8) as threads:
        work = [threads.submit(insert, number) for number in range(blocks)]
        work += [threads.submit(read, number) for number in range(blocks)]
        for piece in work:
            piece.result(DEADLINE_S)
    assert store.query_rows("SELECT count(), uniqExact(row) FROM t") == [
        (blocks * BLOCK_ROWS, blocks * BLOCK_ROWS)
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM filesystem('/etc')",
        "SELECT * FROM Python(credentials)",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1:9000', 'system.one')",
        "SELECT 1 INTO OUTFILE '{path}'",
        "CREATE TABLE stolen (a String) ENGINE = File(CSV, '/etc/passwd')",
        "CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(HTTP(url 'http://x/' format 'CSV')) "
        "LAYOUT(FLAT())",
        "CREATE USER intruder",
        "SYSTEM SHUTDOWN",
    ],
)
def test_statements_do_not_leave_the_database(
    clickhouse_front: RunningFront, tmp_path: Path, statement: str
) -> None:
    """Files, hosts, variables of the process and the process itself are out of reach."""
    path = tmp_path / "written"
    status, body = request(clickhouse_front, body=statement.replace("{path}", str(path)).encode())
    assert status in (403, 404), body
    assert not path.exists()
    assert request(clickhouse_front, body=b"SELECT 1") == (200, b"1\n")


@pytest.mark.parametrize(
    "header", [("Origin", "https://example.com"), ("Sec-Fetch-Site", "same-origin")]
)
def test_pages_in_a_browser_are_refused(
    clickhouse_front: RunningFront, header: tuple[str, str]
) -> None:
    """A web page can't reach the database of the machine that shows it."""
    connection = http.client.HTTPConnection("127.0.0.1", clickhouse_front.port)
    connection.request("POST", "/", b"SELECT 1", dict([header]))
    assert connection.getresponse().status == 403
    connection.close()
