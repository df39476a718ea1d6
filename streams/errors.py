"""Errors of the stream layer, in the families of `consent.errors`.

They carry where they happened, never what a record holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from consent.errors import Corrupt, Retryable


class BatchOutOfOrder(Corrupt):
    """A batch does not begin where the one before it ended: going on would lose records."""

    def __init__(self, step: str, topic: str, partition: int, expected: int, found: int) -> None:
        super().__init__(
            f"batch {step} out of order on {topic}-{partition}: "
            f"it begins at {found}, expected {expected}"
        )
        self.step = step
        self.topic = topic
        self.partition = partition
        self.offset_expected = expected
        self.offset_found = found


class OffsetsOutOfRange(Corrupt):
    """The broker no longer has the records that come next, or never had them.

    Either retention removed records that were not read, or the topic was made anew. What to do is
    a person's decision: reset the group's offsets, and rebuild what was derived.
    """

    def __init__(self, offsets: Mapping[str, int]) -> None:
        super().__init__(f"records that come next are not in the log: {dict(offsets)}")
        self.offsets = dict(offsets)


class NotCopartitioned(Corrupt):
    """Topics that must share their partitions were assigned unequally to this worker."""

    def __init__(self, partitions: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(
            "co-partitioned topics were assigned unequally, check that all of them exist with the "
            f"same number of partitions: {dict(partitions)}"
        )
        self.partitions = dict(partitions)


class BrokerTooSlow(Retryable):
    """The broker did not answer within the request time-out; a restarted worker tries again."""

    def __init__(self, request: str, timeout_s: float) -> None:
        super().__init__(f"{request}: no answer within {timeout_s:g} s")
        self.request = request
        self.timeout_s = timeout_s
