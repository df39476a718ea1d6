"""A bare loop that makes the same rows as the ledger and ends in Arrow inserts, unverified."""

from __future__ import annotations

import asyncio
import os
from importlib.resources import files
from typing import Any

from aiokafka import AIOKafkaConsumer

from bench.contestants.task import LOG_ID, Progress, given_task
from consent.blocks import Block
from consent.facts import LogPartition
from consent.privacy import Keys
from projections.clickhouse import Store, StoreParameters
from projections.history_rows import BlockWork, rows_of
from projections.migration import load_migrations, migrate

BLOCK_RECORDS = 20_000
KEYS = Keys(history=b"h" * 32, suppression=b"s" * 32, dead_letters=b"d" * 32)


async def main() -> None:
    """Read the topic once; one insert per table and block."""
    task = given_task()
    progress = Progress()
    nonce = os.urandom(16)
    store = _store(task.clickhouse_url, task.group)
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    progress.report()
    waiting: dict[Any, list[Any]] = {}
    seen = 0
    while progress.done < task.records:
        for place, records in (await consumer.getmany(timeout_ms=500)).items():
            waiting.setdefault(place, []).extend(records)
            seen += len(records)
        for place, records in waiting.items():
            if len(records) >= BLOCK_RECORDS or (records and seen >= task.records):
                _insert(store, task.partitions, place, records, nonce)
                progress.add(len(records))
                waiting[place] = []
    progress.report()
    await consumer.stop()
    store.close()


def _insert(store: Store, partitions: int, place: Any, records: list[Any], nonce: bytes) -> None:
    origin = LogPartition(LOG_ID, place.topic, place.partition)
    recorded_at = [record.timestamp * 1000 for record in records]
    block = Block(
        offset_first=records[0].offset,
        offset_last=records[-1].offset,
        records=len(records),
        bytes=0,
        month=0,
        recorded_at_min=recorded_at[0],
        recorded_at_max=recorded_at[-1],
    )
    work = BlockWork(block, origin, partitions, records, recorded_at)
    rows = rows_of(work, KEYS, nonce)
    for number, table in enumerate((rows.evidence, rows.facts)):
        token = f"{place.topic}-{place.partition}-{records[0].offset}-{number}"
        store.insert_arrow(table.table, table.rows, token=token)


def _store(url: str, name: str) -> Store:
    parameters = StoreParameters(url=url, database="bench_" + name.replace("-", "_"))
    store = Store.connect(parameters)
    migrate(store, load_migrations(files("projections") / "migrations"))
    return store


if __name__ == "__main__":
    asyncio.run(main())
