-- title: Calls placed outside their permit's time
-- answers: Design of this ledger: a permit ends after 60 s, or at the first instant at which a rule denies.
-- finding: rows
-- reads: CallPlaced during (call_id, permit_id, campaign_id, purpose, call_mode)
-- note: Calls whose permit is unknown, or for another call, are in calls-without-permit.
-- column: placed_at When the call was placed
-- column: seller_id For whom
-- column: campaign_id In which campaign
-- column: call_id The dialer's id of the call
-- column: subject Token of the called number
-- column: permit_id The permit that it cites
-- column: decided_at From when the permit was good
-- column: expires_at Until when, not included
-- column: seconds_outside How long after the end, or before the beginning (negative)
-- column: event_id The CallPlaced event
SELECT
    c.at AS placed_at,
    c.seller_id AS seller_id,
    c.campaign_id AS campaign_id,
    c.call_id AS call_id,
    c.subject AS subject,
    c.permit_id AS permit_id,
    d.decided_at AS decided_at,
    d.ends_at AS expires_at,
    if(c.at < d.decided_at, date_diff('microsecond', d.decided_at, c.at), date_diff('microsecond', d.ends_at, c.at)) / 1e6 AS seconds_outside,
    c.event_id AS event_id
FROM call_placed AS c
INNER JOIN
(
    SELECT permit_id, verdict, seller_id, lower(hex(subject)) AS subject, effective_at AS decided_at,
        if(expires_at = toDateTime64(0, 6, 'UTC'), effective_at + INTERVAL 60 SECOND, expires_at) AS ends_at
    FROM facts
    WHERE event_name = 'DialDecision' AND unreadable = '' AND NOT test AND permit_id != ''
        AND permit_id IN (SELECT permit_id FROM call_placed WHERE permit_id IS NOT NULL)
        AND recorded_at <= {known_at:DateTime64(6, 'UTC')}
    ORDER BY recorded_at, topic, partition, offset
    LIMIT 1 BY permit_id
) AS d ON c.permit_id = d.permit_id
WHERE d.verdict = 'ALLOW' AND d.subject = c.subject AND d.seller_id = c.seller_id
    AND (c.at < d.decided_at OR c.at >= d.ends_at)
    AND (empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)})
ORDER BY placed_at, call_id, event_id
