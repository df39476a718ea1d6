-- A row per erased subject and partition: evidence at or below `offset_last` is gone and must
-- never be inserted again. `offset` and `partition` are those of the event that says so.
CREATE TABLE {database}.erasures
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(6, 'UTC'),
    event_id String,
    subject FixedString(16),
    request_id String,
    cutoff_at DateTime64(6, 'UTC'),
    erased_log_id FixedString(16),
    erased_topic LowCardinality(String),
    erased_partition Int32,
    erased_offset_last Int64
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset, erased_log_id, erased_partition)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- Who looked at whose history.
CREATE TABLE {database}.access_log
(
    access_id UUID,
    at DateTime64(6, 'UTC'),
    actor LowCardinality(String),
    role LowCardinality(String),
    action LowCardinality(String),
    subject FixedString(16),
    request_id String,
    outcome LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (subject, at, access_id)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
