-- title: Gaps and doubles in the offsets of every partition
-- answers: Completeness: an accepted record is in history exactly once. `verify` proves it; this finds it fast.
-- finding: rows
-- scope: ledger
-- note: Of facts, a GAP is an offset that none has, a DOUBLE one that two have. Of blocks, GAP and DOUBLE are between two blocks, COUNT is a block that holds another number of facts than it says. Looks at what was recorded by the time asked, whatever the period.
-- column: what facts or blocks
-- column: kind GAP, DOUBLE or COUNT
-- column: topic Topic
-- column: partition Partition
-- column: log_id Incarnation of the topic
-- column: after_offset Last offset before it
-- column: before_offset First offset behind it
-- column: records How many records are missing, or too many (negative)
SELECT * FROM
(
    SELECT 'facts' AS what, if(step > 1, 'GAP', 'DOUBLE') AS kind, topic, partition, lower(hex(log_id)) AS log_id, before AS after_offset, offset AS before_offset, step - 1 AS records
    FROM
    (
        SELECT topic, partition, log_id, offset,
            lagInFrame(offset, 1, toInt64(-1)) OVER w AS before,
            row_number() OVER w AS nth,
            offset - before AS step
        FROM facts WHERE recorded_at <= {known_at:DateTime64(6, 'UTC')}
        WINDOW w AS (PARTITION BY log_id, topic, partition ORDER BY offset ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WHERE nth > 1 AND step != 1
    UNION ALL
    SELECT 'blocks', if(step > 1, 'GAP', 'DOUBLE'), topic, partition, lower(hex(log_id)), before, offset_first, step - 1
    FROM
    (
        SELECT topic, partition, log_id, offset_first,
            lagInFrame(offset_last, 1, toInt64(-1)) OVER w AS before,
            row_number() OVER w AS nth,
            offset_first - before AS step
        FROM blocks WHERE recorded_at_max <= {known_at:DateTime64(6, 'UTC')}
        WINDOW w AS (PARTITION BY log_id, topic, partition ORDER BY offset_first, offset_last ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    WHERE nth > 1 AND step != 1
    UNION ALL
    SELECT 'blocks', 'COUNT', b.topic, b.partition, lower(hex(b.log_id)), b.offset_first - 1, b.offset_last + 1, b.records - ifNull(n.counted, 0)
    FROM (SELECT * FROM blocks WHERE recorded_at_max <= {known_at:DateTime64(6, 'UTC')}) AS b
    LEFT JOIN
    (
        SELECT log_id, topic, partition, offset_first, toInt64(countIf(f.offset <= offset_last)) AS counted
        FROM facts AS f
        ASOF JOIN blocks AS k ON f.log_id = k.log_id AND f.topic = k.topic AND f.partition = k.partition AND f.offset >= k.offset_first
        GROUP BY k.log_id AS log_id, k.topic AS topic, k.partition AS partition, k.offset_first AS offset_first
    ) AS n ON b.log_id = n.log_id AND b.topic = n.topic AND b.partition = n.partition AND b.offset_first = n.offset_first
    WHERE b.records != ifNull(n.counted, 0)
)
ORDER BY what, topic, partition, log_id, after_offset
