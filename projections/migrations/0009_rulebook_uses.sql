-- By which engine and time-zone data a rulebook was put into use: one row for each combination,
-- written with the content. When it was is in `rulebook_activations`.
CREATE TABLE {database}.rulebook_uses
(
    rulebook_digest FixedString(32),
    rulebook_version LowCardinality(String),
    engine_version LowCardinality(String),
    tzdata_version LowCardinality(String)
)
ENGINE = MergeTree
ORDER BY (rulebook_digest, engine_version, tzdata_version)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
