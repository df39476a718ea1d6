-- The only table with personal data: one row per readable record. Rows are deleted for good on
-- erasure; the commitment inside the fact stays and proves nothing about them any more.
-- Found by position (which facts give), so it needs no projection, and a deletion rewrites none.
CREATE TABLE {database}.evidence
(
    log_id FixedString(16) CODEC(ZSTD(1)),
    topic LowCardinality(String),
    partition Int32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    subject FixedString(16),
    number String CODEC(ZSTD(1)),
    salt FixedString(16),
    evidence Nullable(String) CODEC(ZSTD(3)),
    INDEX by_subject subject TYPE bloom_filter(0.001) GRANULARITY 4
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
