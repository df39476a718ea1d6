"""A plain table for contestants that have no tables of their own."""

from __future__ import annotations

import clickhouse_connect

HISTORY_KEY = b"h" * 32
COLUMNS = [
    "fact", "subject", "topic", "partition", "offset", "recorded_at", "occurred_at",
    "event_name", "event_id", "seller_id", "elements",
]  # fmt: skip


def create_table(url: str, name: str) -> str:
    """Make a table of the contestant's own; returns its name."""
    table = "bench." + name.replace("-", "_")
    client = clickhouse_connect.get_client(dsn=url)
    client.command("CREATE DATABASE IF NOT EXISTS bench")
    client.command(
        f"CREATE TABLE {table} (fact String, subject FixedString(16), topic String, "
        "partition Int32, offset Int64, recorded_at Int64, occurred_at Int64, event_name String, "
        "event_id String, seller_id String, elements Int64) "
        "ENGINE = MergeTree ORDER BY (subject, recorded_at, offset)"
    )
    return table
