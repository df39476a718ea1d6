"""The projection as Faust documents it: an agent, one record at a time, and a Table."""

from __future__ import annotations

import faust

from bench.contestants.task import Progress, given_task, position
from consent.codec import decode
from consent.lift import evolve
from consent.state import EMPTY
from consent.state_codec import decode_state, encode_state

TASK = given_task()
app = faust.App(
    TASK.group,
    broker=f"kafka://{TASK.bootstrap}",
    datadir=TASK.folder,
    store="memory://",
    topic_partitions=TASK.partitions,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
events = app.topic(TASK.topic, key_type=bytes, value_type=bytes, key_serializer="raw",
                   value_serializer="raw")  # fmt: skip
states = app.Table("states", key_type=bytes, value_type=bytes, partitions=TASK.partitions)
progress = Progress()


@app.agent(events)
async def project(stream: faust.StreamT) -> None:
    async for event in stream.events():
        record, fields = decode(event.value)
        message = event.message
        held = states.get(event.key)
        state = decode_state(held) if held else EMPTY
        place = position(TASK.topic, message.partition, message.offset, int(message.timestamp))
        after = evolve(state, record.name, fields, fields["occurred_at"], place)
        states[event.key] = encode_state(after)
        progress.add()


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
