-- An access is an entry of the proof log; a second copy could differ from what was sealed. The
-- table of 0006 was never written to.
DROP TABLE IF EXISTS {database}.access_log;

CREATE VIEW {database}.access_log AS
SELECT
    entry_id AS access_id,
    at,
    content['who'] AS who,
    content['role'] AS role,
    content['what'] AS what,
    content['why'] AS why,
    content['parameters'] AS parameters,
    subject
FROM {database}.log_entries
WHERE entry_kind = 'ACCESS';
