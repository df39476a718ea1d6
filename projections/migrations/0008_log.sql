-- Blocks that were sealed before blocks had roots got theirs afterwards, here, since rows are never
-- changed; and where in the proof log each entry is. Both follow from facts, blocks and the log.
CREATE TABLE {database}.block_roots
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset_first Int64,
    root FixedString(32),
    previous_header_sha256 Nullable(FixedString(32))
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset_first)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE {database}.log_positions
(
    origin LowCardinality(String),
    entry_index Int64,
    entry_sha256 FixedString(32),
    entry_name LowCardinality(String),
    entry_id String,
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset_first Int64,
    offset_last Int64
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset_first, entry_index)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
