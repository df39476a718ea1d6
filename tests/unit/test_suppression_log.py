"""Which errors of the brokers a projection sits out."""

from __future__ import annotations

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from projections.suppression_log import passes


@pytest.mark.parametrize(
    "problem",
    [
        KafkaTimeoutError("no answer"),
        KafkaConnectionError(),
        NodeNotReadyError(),
        NotLeaderForPartitionError(),
    ],
)
def test_a_broker_that_is_away_passes(problem: KafkaError) -> None:
    """A broker that does not answer must not end a worker: others go on, and it comes back."""
    assert passes(problem)


@pytest.mark.parametrize("problem", [TopicAuthorizationFailedError(), UnsupportedVersionError()])
def test_a_refusal_does_not_pass(problem: KafkaError) -> None:
    """What a broker refuses it refuses the next time, too."""
    assert not passes(problem)
