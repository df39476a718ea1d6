"""Which worker of a group gets which partitions: equal shares, and the same for joined topics.

Faust's own deals partitions out in turn, without looking at what a worker has by then: the fifth
worker that joins four on twelve partitions is left with one while three keep three. The group's
protocol and what members tell each other are Faust's, so workers with either can share a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from typing import Any

import structlog
from faust.assignor.client_assignment import ClientAssignment, CopartitionedAssignment
from faust.assignor.partition_assignor import PartitionAssignor

log = structlog.get_logger(__name__)


def even_shares(held: Mapping[str, Set[int]], partitions: int) -> dict[str, set[int]]:
    """Partitions 0 to `partitions` - 1 among the members, by what each of them `held` before.

    Every partition goes to one member; shares differ by one at most. As few move as that allows:
    who held most has the larger shares. The same input gives the same shares.
    """
    by_most = sorted(held, key=lambda member: (-len(held[member]), member))
    size, larger = divmod(partitions, len(by_most))
    quotas = {member: size + (place < larger) for place, member in enumerate(by_most)}
    free = set(range(partitions))
    shares: dict[str, set[int]] = {}
    for member in by_most:
        shares[member] = set(sorted(free & held[member])[: quotas[member]])
        free -= shares[member]
    dealt = iter(sorted(free))
    for member in by_most:
        shares[member].update(_next(dealt, quotas[member] - len(shares[member])))
    return shares


def _next(dealt: Iterator[int], count: int) -> list[int]:
    return [next(dealt) for _ in range(count)]


class EvenAssignor(PartitionAssignor):
    """The group's assignor. Topics with the same members and as many partitions are shared alike.

    Knows no tables: the apps of this package have none.
    """

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        told = {
            member: self._get_client_metadata(metadata)
            for member, metadata in member_metadata.items()
        }
        self._update_member_urls(told)
        assignments = {member: ClientAssignment(actives={}, standbys={}) for member in told}
        group_of: dict[str, int] = {}
        for number, ((partitions, members), topics) in enumerate(
            sorted(_alike(cluster, member_metadata).items(), key=lambda group: sorted(group[1]))
        ):
            held = {
                member: told[member].assignment.copartitioned_assignment(topics).actives
                for member in members
            }
            for member, share in even_shares(held, partitions).items():
                assignments[member].add_copartitioned_assignment(
                    CopartitionedAssignment(actives=share, topics=topics)
                )
            group_of |= dict.fromkeys(topics, number)
        return self._protocol_assignments(
            assignments, {}, self._get_external_topic_distribution(assignments), group_of
        )


def _alike(cluster: Any, member_metadata: Any) -> Mapping[tuple[int, frozenset[str]], set[str]]:
    """Topics by how many partitions they have and who subscribes to them."""
    members_of = defaultdict(set)
    for member, metadata in member_metadata.items():
        for topic in metadata.subscription:
            members_of[topic].add(member)
    alike = defaultdict(set)
    for topic, members in members_of.items():
        partitions = len(cluster.partitions_for_topic(topic) or ())
        if partitions:
            alike[partitions, frozenset(members)].add(topic)
        else:
            log.warning("topic_is_missing", topic=topic)
    return alike
