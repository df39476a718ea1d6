-- What was known when: which registry file was in force, which rulebook was active.
CREATE TABLE {database}.registry_versions
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(6, 'UTC'),
    event_id String,
    seller_id LowCardinality(String),
    test Bool,
    list_id LowCardinality(String),
    area LowCardinality(String),
    version String,
    version_date Date32,
    obtained_at DateTime64(6, 'UTC'),
    uri String,
    sha256 String,
    numbers Int64,
    format LowCardinality(String),
    change LowCardinality(String),
    base_version Nullable(String),
    valid_until Nullable(Date32)
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE {database}.rulebook_activations
(
    log_id FixedString(16),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    recorded_at DateTime64(6, 'UTC'),
    event_id String,
    seller_id LowCardinality(String),
    test Bool,
    rulebook_digest String,
    rulebook_version String,
    profile Nullable(String),
    previous_digest Nullable(String)
)
ENGINE = MergeTree
ORDER BY (log_id, partition, offset)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- Content by digest, written by whoever activates a rulebook, before it is activated.
CREATE TABLE {database}.rulebooks
(
    rulebook_digest FixedString(32),
    path String,
    content String CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (rulebook_digest, path)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
