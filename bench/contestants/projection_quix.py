"""The projection in Quix Streams: the same decoding and fold, in its RocksDB state."""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from bench.contestants.task import Progress, given_task, position
from consent.codec import decode
from consent.lift import evolve
from consent.state import EMPTY
from consent.state_codec import decode_state, encode_state

TASK = given_task()
progress = Progress()


def project(value: bytes, key: Any, timestamp: int, headers: Any, state: State) -> None:
    """Fold one record into the state of its key."""
    record, fields = decode(value)
    held = state.get_bytes("state")
    before = decode_state(held) if held else EMPTY
    after = evolve(
        before, record.name, fields, fields["occurred_at"], position(TASK.topic, 0, 0, timestamp)
    )
    state.set_bytes("state", encode_state(after))
    progress.add()


def main() -> None:
    """Run until ended."""
    app = Application(
        broker_address=TASK.bootstrap,
        consumer_group=TASK.group,
        auto_offset_reset="earliest",
        state_dir=TASK.folder,
        loglevel="ERROR",
        auto_create_topics=True,
    )
    topic = app.topic(TASK.topic, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).apply(project, stateful=True, metadata=True)
    app.run()


if __name__ == "__main__":
    main()
