-- Blocks tile every partition's log; checkpoints and log_entries are what `ledger-checkpoints` and
-- `ledger-blocks` say, kept because those topics forget.
CREATE TABLE {database}.blocks
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset_first Int64,
    offset_last Int64,
    records Int64,
    month Int32,
    recorded_at_min DateTime64(6, 'UTC'),
    recorded_at_max DateTime64(6, 'UTC'),
    facts_sha256 FixedString(32),
    root Nullable(FixedString(32)),
    previous_header_sha256 Nullable(FixedString(32)),
    cutter_version Int32
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset_first)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE {database}.log_entries
(
    entry_id UUID,
    at DateTime64(6, 'UTC'),
    entry_kind LowCardinality(String),
    subject FixedString(16),
    content_sha256 FixedString(32),
    content Map(String, String)
)
ENGINE = MergeTree
ORDER BY (entry_kind, at, entry_id)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE {database}.checkpoints
(
    origin LowCardinality(String),
    size Int64,
    root FixedString(32),
    note String,
    at DateTime64(6, 'UTC'),
    cosignatures Array(String)
)
ENGINE = MergeTree
ORDER BY (origin, size)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
