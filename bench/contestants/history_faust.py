"""The history as Faust documents it: `take`, rows one by one, an insert, automatic acks."""

from __future__ import annotations

from typing import Any

import clickhouse_connect
import faust

from bench.contestants.history_table import COLUMNS, HISTORY_KEY, create_table
from bench.contestants.task import Progress, given_task
from consent.codec import decode
from consent.evidence import element_bits
from consent.privacy import subject_token

BATCH_RECORDS_MAX = 5_000
TASK = given_task()
app = faust.App(
    TASK.group,
    broker=f"kafka://{TASK.bootstrap}",
    datadir=TASK.folder,
    store="memory://",
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    stream_buffer_maxsize=32_768,
    web_enabled=False,
)
events = app.topic(TASK.topic, key_type=bytes, value_type=bytes, key_serializer="raw",
                   value_serializer="raw")  # fmt: skip
progress = Progress()
TABLE = create_table(TASK.clickhouse_url, TASK.group)
client: Any = clickhouse_connect.get_client(dsn=TASK.clickhouse_url)


@app.agent(events)
async def record(stream: faust.StreamT) -> None:
    async for taken in stream.take_events(BATCH_RECORDS_MAX, within=1.0):
        client.insert(TABLE, [row(event) for event in taken], column_names=COLUMNS)
        progress.add(len(taken))


def row(event: Any) -> tuple[Any, ...]:
    """Columns of one record: the same facts as the ledger keeps, without their encoding."""
    record, fields = decode(event.value)
    message = event.message
    return (
        message.value,
        subject_token(HISTORY_KEY, fields["number"]),
        message.topic,
        message.partition,
        message.offset,
        int(message.timestamp) * 1000,
        fields["occurred_at"],
        record.name,
        fields["event_id"],
        fields["seller_id"],
        element_bits(fields),
    )


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
