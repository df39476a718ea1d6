-- title: Calls without a permit
-- answers: 16 CFR 310.4(b)(3)(iv), 47 CFR 64.1200(c)(2)(i)(D): a process to prevent calls that are not allowed. A call that cites no permit was not checked.
-- finding: rows
-- reads: CallPlaced during (call_id, permit_id, campaign_id, telemarketer_id, purpose, call_mode, dial_mode, contact_kind)
-- note: A permit is one that a recorded decision gave. OTHER_NUMBER and OTHER_SELLER: it was given for another call.
-- column: placed_at When the call was placed
-- column: seller_id For whom
-- column: campaign_id In which campaign
-- column: call_id The dialer's id of the call
-- column: subject Token of the called number
-- column: purpose What the call was about
-- column: call_mode How it was spoken
-- column: dial_mode How it was dialled
-- column: permit_id The permit that it cites
-- column: why NONE, UNKNOWN, NOT_ALLOWED, OTHER_NUMBER or OTHER_SELLER
-- column: event_id The CallPlaced event
SELECT * FROM
(
    SELECT
        c.at AS placed_at,
        c.seller_id AS seller_id,
        c.campaign_id AS campaign_id,
        c.call_id AS call_id,
        c.subject AS subject,
        c.purpose AS purpose,
        c.call_mode AS call_mode,
        c.dial_mode AS dial_mode,
        c.permit_id AS permit_id,
        multiIf(
            c.permit_id IS NULL, 'NONE',
            d.permit_id IS NULL, 'UNKNOWN',
            d.verdict != 'ALLOW', 'NOT_ALLOWED',
            d.subject != c.subject, 'OTHER_NUMBER',
            d.seller_id != c.seller_id, 'OTHER_SELLER',
            '') AS why,
        c.event_id AS event_id
    FROM call_placed AS c
    LEFT ANY JOIN
    (
        SELECT permit_id, verdict, seller_id, lower(hex(subject)) AS subject
        FROM facts
        WHERE event_name = 'DialDecision' AND unreadable = '' AND NOT test AND permit_id != ''
            AND permit_id IN (SELECT permit_id FROM call_placed WHERE permit_id IS NOT NULL)
            AND recorded_at <= {known_at:DateTime64(6, 'UTC')}
        ORDER BY recorded_at, topic, partition, offset
        LIMIT 1 BY permit_id
    ) AS d ON c.permit_id = d.permit_id
    WHERE empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)}
)
WHERE why != ''
ORDER BY placed_at, call_id, event_id
