-- One row per accepted record. Every column but `fact` is a function of `fact`
-- (consent/fact_columns.py) and can be checked against it; nothing is ever updated or deleted.
-- An insert is one block of one partition of the log, so it is one part and whole or absent.
CREATE TABLE {database}.facts
(
    fact String CODEC(ZSTD(3)),
    subject FixedString(16),
    topic LowCardinality(String),
    partition Int32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta, ZSTD(1)),
    log_id FixedString(16) CODEC(ZSTD(1)),
    recorded_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    occurred_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    effective_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    event_name LowCardinality(String),
    event_version Int32 CODEC(ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    test Bool CODEC(ZSTD(1)),
    unreadable LowCardinality(String),
    elements Int64 CODEC(ZSTD(1)),
    states Array(LowCardinality(String)),
    source_system LowCardinality(String),
    source_channel LowCardinality(String),
    source_actor LowCardinality(String),
    seller_id LowCardinality(String),
    purposes Array(LowCardinality(String)),
    modes Array(LowCardinality(String)),
    subject_matters Array(LowCardinality(String)),
    dial_mode LowCardinality(String),
    consent_kind LowCardinality(String),
    change LowCardinality(String),
    list_kind LowCardinality(String),
    list_id LowCardinality(String),
    area LowCardinality(String),
    relationship_kind LowCardinality(String),
    answer LowCardinality(String),
    campaign_id LowCardinality(String),
    call_id String CODEC(ZSTD(1)),
    permit_id String CODEC(ZSTD(1)),
    request_id String CODEC(ZSTD(1)),
    outcome LowCardinality(String),
    verdict LowCardinality(String),
    reason LowCardinality(String),
    reasons Array(LowCardinality(String)),
    rule LowCardinality(String),
    rulebook_digest LowCardinality(String),
    INDEX by_event_id event_id TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_call_id call_id TYPE bloom_filter(0.001) GRANULARITY 4,
    PROJECTION by_position
    (
        SELECT log_id, topic, partition, offset, recorded_at, _part_offset
        ORDER BY log_id, partition, offset
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(recorded_at)
ORDER BY (subject, recorded_at, topic, partition, offset)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
