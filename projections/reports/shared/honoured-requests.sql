-- reads: ConsentWithdrawn during (manner, all_sellers)
-- reads: DncAdded during (list_kind, requested_at)
-- reads: CallEnded during (opted_out, opted_out_at)
-- reads: ConsentRefused during (objection)
-- reads: DialDecision.watermark during (partition, true_at)
-- parameter: view_max_age_ms UInt32 5000 How old a dialer's view may be: older ones answer nothing
-- parameter: business_days_max UInt32 10 How many business days are allowed
-- note: A request is honoured from the first state on that denies: the first watermark of its partition, among those that decisions recorded, that is not before the request was recorded; without one within view_max_age_ms, that time after it was recorded, since no older view answers.
-- note: Business days are Monday to Friday in UTC, holidays included: the stricter reading.
WITH
asked AS
(
    SELECT
        seller_id, subject, event_id, event_name, recorded_at, log_id, topic, partition, offset,
        least(recorded_at, requested) AS requested_at,
        channel
    FROM
    (
        SELECT seller_id, subject, event_id, 'ConsentWithdrawn' AS event_name, recorded_at, log_id, topic, partition, offset, at AS requested, manner AS channel
        FROM consent_withdrawn
        UNION ALL
        SELECT seller_id, subject, event_id, 'DncAdded', recorded_at, log_id, topic, partition, offset, ifNull(requested_at, at), 'LIST'
        FROM dnc_added WHERE list_kind IN ('INTERNAL', 'UNKNOWN')
        UNION ALL
        SELECT seller_id, subject, event_id, 'CallEnded', recorded_at, log_id, topic, partition, offset, ifNull(opted_out_at, at), 'CALL'
        FROM call_ended WHERE opted_out
        UNION ALL
        SELECT seller_id, subject, event_id, 'ConsentRefused', recorded_at, log_id, topic, partition, offset, at, 'OBJECTION'
        FROM consent_refused WHERE objection
    )
    WHERE empty({sellers:Array(String)}) OR seller_id IN {sellers:Array(String)}
),
seen AS
(
    SELECT watermark_partition, arraySort(groupArray(true_at)) AS times
    FROM dial_decision_watermark GROUP BY watermark_partition
),
honoured AS
(
    SELECT
        asked.*,
        arrayFirst(t -> t >= recorded_at, seen.times) AS shown_at,
        recorded_at + toIntervalMillisecond({view_max_age_ms:UInt32}) AS at_the_latest,
        if(shown_at >= recorded_at AND shown_at < at_the_latest, shown_at, at_the_latest) AS honoured_at,
        date_diff('millisecond', requested_at, honoured_at) / 1000 AS seconds,
        -- Monday is 0 here; days after the request's own day up to that of the state.
        toInt64(dateDiff('day', toDate('1970-01-05'), toDate(honoured_at, 'UTC'))) AS to_day,
        toInt64(dateDiff('day', toDate('1970-01-05'), toDate(requested_at, 'UTC'))) AS from_day,
        (intDiv(to_day + 7000000, 7) * 5 + least((to_day + 7000000) % 7 + 1, 5))
            - (intDiv(from_day + 7000000, 7) * 5 + least((from_day + 7000000) % 7 + 1, 5)) AS business_days
    FROM asked LEFT JOIN seen ON asked.partition = seen.watermark_partition
)
