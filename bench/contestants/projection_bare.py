"""A bare loop: the same decoding, hashing and state encoding, states in a dict, nothing kept."""

from __future__ import annotations

import asyncio
import os

from aiokafka import AIOKafkaConsumer

from bench.contestants.task import LOG_ID, Progress, given_task
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.state_bytes import apply_entries

BATCH_RECORDS_MAX = 4_000


async def main() -> None:
    """Read the topic once and fold it."""
    task = given_task()
    progress = Progress()
    nonce, party_key = os.urandom(16), os.urandom(32)
    states: dict[bytes, bytes] = {}
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    progress.report()
    while progress.done < task.records:
        fetched = await consumer.getmany(timeout_ms=1_000, max_records=BATCH_RECORDS_MAX)
        for place, records in fetched.items():
            origin = Origin(place.topic, place.partition, task.partitions)
            reading = read_batch(records, origin, nonce, needed_columns)
            recorded_at = [record.timestamp * 1000 for record in records]
            log = Log(place.topic, LOG_ID, place.partition)
            lifted = lift_batch(reading, records, recorded_at, log, party_key)
            for number, entries in lifted.items():
                states[number] = apply_entries(states.get(number), entries)
            progress.add(len(records))
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
