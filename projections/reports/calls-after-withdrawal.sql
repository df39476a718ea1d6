-- title: Calls after consent was withdrawn, or not to call was asked
-- answers: 47 CFR 64.1200(a)(10), (d)(3); 16 CFR 310.4(b)(1)(iii)(A): no call after the person said no.
-- finding: rows
-- reads: CallPlaced during (call_id, permit_id, campaign_id, purpose, call_mode, subject_matter, contact_kind)
-- note: The request is the oldest one that covers the call and that nothing given since has answered: for a withdrawal a grant for the same seller, purpose and mode; for a do-not-call request its removal, or written consent.
-- note: A request counts from when the person made it, also where it was recorded later: see known_before_call.
-- column: placed_at When the call was placed
-- column: seller_id For whom
-- column: campaign_id In which campaign
-- column: call_id The dialer's id of the call
-- column: subject Token of the called number
-- column: request_kind Event type of the request
-- column: requested_at When the person made it
-- column: recorded_at When the log took it
-- column: hours_since Hours from the request to the call
-- column: known_before_call Whether the log had the request when the call was placed
-- column: request_event_id The request
-- column: permit_id The permit that the call cites
-- column: event_id The CallPlaced event
WITH told AS
(
    SELECT
        lower(hex(subject)) AS subject,
        effective_at,
        recorded_at,
        event_id,
        event_name,
        unreadable,
        if(unreadable != '' OR hasAny(flags, ['all_sellers', 'opt_out_all_sellers']), '*', seller_id) AS seller,
        if(event_name = 'ConsentGranted', purposes, if(empty(purposes) OR has(purposes, 'UNKNOWN'), ['*'], purposes)) AS for_purposes,
        if(event_name = 'ConsentGranted', modes, if(empty(modes) OR has(modes, 'UNKNOWN'), ['*'], modes)) AS for_modes,
        if(event_name IN ('ConsentWithdrawn', 'ConsentGranted') AND length(subject_matters) <= 16, subject_matters, emptyArrayString()) AS matters,
        consent_kind,
        change,
        list_kind,
        flags
    FROM facts
    WHERE facts.subject IN (SELECT toFixedString(unhex(subject), 16) FROM call_placed)
        AND event_name IN ('ConsentGranted', 'ConsentWithdrawn', 'ConsentInvalidated', 'ConsentRefused', 'DncAdded', 'DncRemoved', 'CallEnded', 'ErasureRequested')
        AND NOT test AND recorded_at <= {known_at:DateTime64(6, 'UTC')}
    ORDER BY facts.recorded_at, topic, partition, offset
    LIMIT 1 BY if(event_id = '', concat(hex(log_id), toString(partition), '/', toString(offset)), event_id)
),
requests AS
(
    SELECT subject, groupArray((effective_at, recorded_at, event_id, event_name, seller, for_purposes, for_modes, matters, dnc)) AS said
    FROM
    (
        SELECT *,
            event_name IN ('DncAdded', 'ConsentRefused') OR has(flags, 'opted_out') AS dnc
        FROM told
        WHERE event_name IN ('ConsentWithdrawn', 'ConsentInvalidated', 'ErasureRequested')
            OR (event_name = 'DncAdded' AND (unreadable != '' OR list_kind IN ('INTERNAL', 'UNKNOWN')))
            OR (event_name = 'ConsentRefused' AND (unreadable != '' OR has(flags, 'objection')))
            OR (event_name = 'CallEnded' AND has(flags, 'opted_out'))
    )
    GROUP BY subject
),
answers AS
(
    SELECT subject, groupArray((effective_at, event_name, seller, for_purposes, for_modes, consent_kind)) AS given
    FROM told
    WHERE unreadable = '' AND
        ((event_name = 'ConsentGranted' AND change != 'REQUESTED') OR (event_name = 'DncRemoved' AND list_kind IN ('INTERNAL', 'UNKNOWN')))
    GROUP BY subject
)
SELECT
    placed_at,
    seller_id,
    campaign_id,
    call_id,
    subject,
    open.4 AS request_kind,
    open.1 AS requested_at,
    open.2 AS recorded_at,
    round(date_diff('second', open.1, placed_at) / 3600, 3) AS hours_since,
    (open.2 <= placed_at)::Bool AS known_before_call,
    open.3 AS request_event_id,
    permit_id,
    event_id
FROM
(
    SELECT
        c.at AS placed_at,
        c.seller_id AS seller_id,
        c.campaign_id AS campaign_id,
        c.call_id AS call_id,
        c.subject AS subject,
        c.permit_id AS permit_id,
        c.event_id AS event_id,
        assumeNotNull(c.purpose) AS purpose,
        assumeNotNull(c.call_mode) AS call_mode,
        ifNull(c.subject_matter, '') AS matter,
        arrayFilter(
            g -> g.1 <= placed_at AND g.3 IN (seller_id, '*')
                AND (g.2 = 'DncRemoved' OR (has(g.4, purpose) AND has(g.5, call_mode))),
            a.given) AS later,
        arraySort(arrayFilter(
            r -> r.1 <= placed_at AND r.5 IN (seller_id, '*')
                AND (r.9 OR ((hasAny(r.6, [purpose, '*']) OR purpose = 'UNKNOWN') AND (hasAny(r.7, [call_mode, '*']) OR call_mode = 'UNKNOWN')
                    AND (empty(r.8) OR has(r.8, matter))))
                AND NOT arrayExists(
                    g -> g.1 > r.1 AND if(r.9, g.2 = 'DncRemoved' OR g.6 IN ('PEWC', 'WRITTEN_DNC'), g.2 = 'ConsentGranted'),
                    later),
            r.said)) AS standing,
        standing[1] AS open
    FROM call_placed AS c
    INNER JOIN requests AS r ON c.subject = r.subject
    LEFT JOIN answers AS a ON c.subject = a.subject
    WHERE empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)}
)
WHERE notEmpty(standing)
ORDER BY placed_at, call_id, event_id
