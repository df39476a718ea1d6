"""Partitioning against another implementation of Kafka's default partitioner."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from consent.partitioning import partition_of, partitions_of


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(1, 64))
def test_partitions_are_those_of_kafka_clients(keys: list[bytes], partitions: int) -> None:
    """Scalar and vectorised murmur2 choose the partition that a Kafka producer chooses."""
    everything = list(range(partitions))
    theirs = [DefaultPartitioner()(key, everything, everything) for key in keys]
    assert [partition_of(key, partitions) for key in keys] == theirs
    assert partitions_of(keys, partitions).tolist() == theirs
