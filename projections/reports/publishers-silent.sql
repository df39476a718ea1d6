-- title: Publishers that have gone silent
-- answers: Whether what upstream systems know still arrives: a withdrawal that is not published is not honoured.
-- finding: column silent
-- scope: ledger
-- parameter: hours Float64 24 After how many hours without an event a publisher is silent
-- parameter: days UInt32 30 Publishers that published in so many days before `to` are looked at
-- note: Silence is counted from the last event to `to`, or to when the report is made if that is earlier.
-- column: source_system The publisher, as its events name it
-- column: topic Where it publishes
-- column: events Events in the days looked at
-- column: last_recorded_at Its last event
-- column: hours_silent Hours since then
-- column: longest_gap_hours Its longest silence before, in these days
-- column: silent Whether it is silent now
WITH least({to:DateTime64(6, 'UTC')}, {known_at:DateTime64(6, 'UTC')}) AS until
SELECT
    source_system,
    topic,
    count() AS events,
    max(recorded_at) AS last_recorded_at,
    round(date_diff('second', last_recorded_at, until) / 3600, 3) AS hours_silent,
    round(max(gap) / 3600, 3) AS longest_gap_hours,
    (hours_silent > {hours:Float64})::Bool AS silent
FROM
(
    SELECT source_system, topic, recorded_at,
        date_diff('second', lagInFrame(recorded_at, 1, recorded_at) OVER (PARTITION BY source_system, topic ORDER BY recorded_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), recorded_at) AS gap
    FROM facts
    WHERE unreadable = '' AND NOT test AND event_name != 'DialDecision'
        AND recorded_at >= until - toIntervalDay({days:UInt32}) AND recorded_at < until
)
GROUP BY source_system, topic
ORDER BY silent DESC, source_system, topic
