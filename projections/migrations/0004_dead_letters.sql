-- Records that could not be read, encrypted; they may hold anything, so they go after 30 days.
CREATE TABLE {database}.dead_letters
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(6, 'UTC'),
    reason LowCardinality(String),
    detail String,
    schema_id Nullable(Int32),
    event_name LowCardinality(String),
    key_id LowCardinality(String),
    nonce String,
    original String
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset)
TTL toDateTime(recorded_at) + INTERVAL 30 DAY DELETE
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
