"""What the law orders kept after an erasure, and when copies that nobody deletes are gone.

The grounds are those of `docs/privacy.md`; a certificate repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consent.contracts import Contracts

CONSENT_TOPIC: Final = "consent-events"
DEAD_LETTERS_TOPIC: Final = "dead-letters"
_DAY_MS: Final = 86_400_000
_MARGIN_MS: Final = 3_600_000
"""Brokers look for what to remove every few minutes, and remove files a minute later."""
_SEGMENT_MS: Final = 7 * _DAY_MS
_TOMBSTONE_MS: Final = _DAY_MS
"""Apache Kafka's own defaults, where a topic says nothing."""

_FACTS: Final = (
    "facts under a keyed token, without number or evidence (what was agreed or withdrawn, when, "
    "with which kinds of proof, which calls were placed and why): GDPR Art. 17(3)(b) and (e); "
    "16 CFR 310.5, 5 years; 28 USC 1658, 4 years after the last call; UWG §7a, 5 years after the "
    "last use"
)
_SUPPRESSION: Final = (
    "a suppression entry under another keyed token, so that the number goes on not being called: "
    "GDPR Art. 21(3) and 17(3)(b); 47 CFR 64.1200(d)(6); 16 CFR 310.4(b)(1)(iii)(A)"
)
_PROOF: Final = (
    "number and evidence of consent and its withdrawal (topic consent-events), as proof while "
    "claims can be brought: GDPR Art. 17(3)(b) and (e); 16 CFR 310.5; 28 USC 1658; UWG §7a; they "
    "are to be erased by another request after that"
)


def retained(keeps_consent_proof: bool) -> tuple[str, ...]:
    """What stays after an erasure and why, in the words of its certificate."""
    return (_FACTS, _SUPPRESSION, _PROOF) if keeps_consent_proof else (_FACTS, _SUPPRESSION)


def reached_topics(topics: Sequence[str], keeps_consent_proof: bool) -> tuple[str, ...]:
    """Topics whose evidence an erasure reaches."""
    return tuple(topic for topic in topics if not (keeps_consent_proof and topic == CONSENT_TOPIC))


def topics_horizon_ms(contracts: Contracts) -> int:
    """How long after an erasure the last copy leaves the topics that hold numbers, at most."""
    longest = 0
    for topic in contracts.topics.values():
        if topic.key != "number" and topic.name != DEAD_LETTERS_TOPIC:
            continue
        config = topic.config
        segment = int(config.get("segment.ms", _SEGMENT_MS))
        if config["cleanup.policy"] == "compact":
            lag = int(config.get("max.compaction.lag.ms", _SEGMENT_MS))
            longest = max(longest, lag + _TOMBSTONE_MS + segment)
        else:
            longest = max(longest, int(config["retention.ms"]) + segment)
    return longest + _MARGIN_MS
