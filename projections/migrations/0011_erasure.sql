-- The token under which the suppression topic keeps an erased person: their number is in no table
-- any more, and a rebuild has to find the state's key. Whoever reads this table can tie the two
-- tokens of erased people together; a dialer can't read it.
ALTER TABLE {database}.erasures
    ADD COLUMN IF NOT EXISTS suppression_token FixedString(16) AFTER subject;

-- A deletion writes parts anew. The old ones go at once, not after eight minutes, and so the new
-- ones must be on disk before that.
ALTER TABLE {database}.evidence
    MODIFY SETTING old_parts_lifetime = 1, min_compressed_bytes_to_fsync_after_merge = 1;

ALTER TABLE {database}.dead_letters
    MODIFY SETTING old_parts_lifetime = 1, min_compressed_bytes_to_fsync_after_merge = 1;
