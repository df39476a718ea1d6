-- What evidence past its retention leaves behind: of each person, log partition and month the state
-- that the records of that range amount to, as the suppression topic holds it, and the number that
-- it is kept under. A rebuild takes it instead of those records. Rows are deleted on erasure.
CREATE TABLE {database}.carried_states
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset_first Int64,
    offset_last Int64,
    subject FixedString(16),
    number String CODEC(ZSTD(1)),
    body String CODEC(ZSTD(3)),
    INDEX by_subject subject TYPE bloom_filter(0.001) GRANULARITY 4
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset_first, subject)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    old_parts_lifetime = 1,
    min_compressed_bytes_to_fsync_after_merge = 1;

-- What each RETENTION entry of the proof log names by its digest: how many rows of which ranges were
-- to go, and how many stayed and why. It holds no person.
CREATE TABLE {database}.retentions
(
    entry_id UUID,
    at DateTime64(6, 'UTC'),
    month UInt32,
    document String CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (month, entry_id)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
