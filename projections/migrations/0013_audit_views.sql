-- Until when a grant or a permit holds by its own words (the epoch: it does not say), and which
-- yes-no fields an event says yes to.
ALTER TABLE {database}.facts
    ADD COLUMN IF NOT EXISTS expires_at DateTime64(6, 'UTC')
    DEFAULT toDateTime64(0, 6, 'UTC') CODEC(Delta, ZSTD(1)) AFTER rulebook_digest;

ALTER TABLE {database}.facts
    ADD COLUMN IF NOT EXISTS flags Array(LowCardinality(String)) AFTER expires_at;

-- Questions of auditors, in plain SQL. `subject` is the token that `consent-ledger subject` prints,
-- in hexadecimal; `at` is the moment that is asked about, `known_at` from when it is looked at.
-- Of an event that was published twice, the first row counts. Rehearsals are left out.
CREATE VIEW {database}.timeline AS
SELECT
    recorded_at,
    occurred_at,
    effective_at,
    event_name,
    event_id,
    if(hasAny(flags, ['all_sellers', 'opt_out_all_sellers']), '*', seller_id) AS seller,
    seller_id,
    source_system,
    source_channel,
    source_actor,
    purposes,
    modes,
    subject_matters,
    consent_kind,
    change,
    if(expires_at = toDateTime64(0, 6, 'UTC'), NULL, expires_at) AS expires_at,
    list_kind,
    list_id,
    relationship_kind,
    answer,
    campaign_id,
    call_id,
    permit_id,
    request_id,
    outcome,
    flags,
    verdict,
    reason,
    reasons,
    rule,
    rulebook_digest,
    states,
    unreadable,
    hex(log_id) AS log_id,
    topic,
    partition,
    offset
FROM {database}.facts
WHERE subject = toFixedString(unhex({subject:String}), 16)
    AND recorded_at <= {known_at:DateTime64(6, 'UTC')}
    AND least(effective_at, recorded_at) <= {at:DateTime64(6, 'UTC')}
    AND NOT test
ORDER BY recorded_at, topic, partition, offset
LIMIT 1 BY if(event_id = '', concat(hex(log_id), '/', toString(partition), '/', toString(offset)), event_id);

-- The newest grant for each seller, purpose, mode and kind, and what ended it. GRANTED says that
-- it stands by its own words; whether a call may rest on it is what the rules say.
CREATE VIEW {database}.consent_as_of AS
WITH
    known AS
    (
        SELECT * FROM {database}.timeline(
            subject = {subject:String},
            at = {at:DateTime64(6, 'UTC')},
            known_at = {known_at:DateTime64(6, 'UTC')})
    ),
    (
        SELECT groupArray((
            effective_at,
            event_name,
            event_id,
            if(unreadable != '', '*', seller),
            if(empty(purposes) OR has(purposes, 'UNKNOWN'), ['*'], purposes),
            if(empty(modes) OR has(modes, 'UNKNOWN'), ['*'], modes),
            if(event_name = 'ConsentWithdrawn' AND length(subject_matters) <= 16,
                subject_matters, emptyArrayString())))
        FROM known
        WHERE (unreadable = '' AND event_name IN ('ConsentWithdrawn', 'ConsentInvalidated', 'ErasureRequested'))
            OR (unreadable = '' AND event_name = 'CallEnded' AND has(flags, 'opted_out'))
            OR (unreadable != '' AND event_name IN ('ConsentWithdrawn', 'ConsentRefused', 'ConsentInvalidated', 'DncAdded'))
    ) AS ends,
    (
        SELECT max(cutoff_at) FROM {database}.erasures
        WHERE subject = toFixedString(unhex({subject:String}), 16)
            AND recorded_at <= {known_at:DateTime64(6, 'UTC')}
            AND recorded_at <= {at:DateTime64(6, 'UTC')}
    ) AS erased_until
SELECT
    seller_id,
    purpose,
    mode,
    consent_kind,
    multiIf(
        granted_at <= erased_until, 'ERASED',
        notEmpty(arrayFilter(e -> empty(e.7), later)), 'WITHDRAWN',
        expires_at <= {at:DateTime64(6, 'UTC')}, 'EXPIRED',
        'GRANTED') AS status,
    granted_at,
    recorded_at,
    grant_event_id,
    expires_at,
    subject_matters,
    arraySort(arrayDistinct(arrayFlatten(arrayMap(e -> e.7, later)))) AS withdrawn_subject_matters,
    if(empty(later), NULL, arrayMax(e -> e.1, later)) AS withdrawn_at,
    if(empty(later), '', arrayReverseSort(e -> (e.1, e.3), later)[1].2) AS withdrawn_by,
    if(empty(later), '', arrayReverseSort(e -> (e.1, e.3), later)[1].3) AS withdrawal_event_id
FROM
(
    SELECT
        seller_id,
        purpose,
        mode,
        consent_kind,
        newest.1 AS granted_at,
        newest.2 AS recorded_at,
        newest.3 AS grant_event_id,
        newest.4 AS expires_at,
        newest.5 AS subject_matters,
        arrayFilter(
            e -> e.4 IN (seller_id, '*')
                AND (has(e.5, purpose) OR has(e.5, '*'))
                AND (has(e.6, mode) OR has(e.6, '*'))
                AND e.1 >= newest.1,
            ends) AS later
    FROM
    (
        SELECT
            seller_id,
            purpose,
            mode,
            consent_kind,
            argMax(
                (effective_at, recorded_at, event_id, expires_at, subject_matters),
                (effective_at, event_id)) AS newest
        FROM
        (
            SELECT seller_id, consent_kind, effective_at, recorded_at, event_id, expires_at,
                subject_matters, purpose, arrayJoin(modes) AS mode
            FROM
            (
                SELECT *, arrayJoin(purposes) AS purpose FROM known
                WHERE event_name = 'ConsentGranted' AND unreadable = '' AND change != 'REQUESTED'
                    AND consent_kind != 'UNKNOWN' AND seller_id NOT IN ('', '*')
            )
        )
        WHERE purpose != 'UNKNOWN' AND mode != 'UNKNOWN'
        GROUP BY seller_id, purpose, mode, consent_kind
    )
)
ORDER BY seller_id, purpose, mode, consent_kind;

-- What lists say of the number: the newest entry for each seller (`*`: all), kind and list.
CREATE VIEW {database}.dnc_as_of AS
SELECT
    seller,
    kind AS list_kind,
    list AS list_id,
    newest.3 AS status,
    newest.1 AS since,
    newest.4 AS recorded_at,
    newest.5 AS whole_party,
    newest.6 AS event_name,
    newest.2 AS event_id,
    newest.7 AS source_system
FROM
(
    SELECT
        seller,
        kind,
        list,
        argMax(
            (effective_at, event_id, status, recorded_at, whole_party, event_name, source_system),
            (effective_at, status = 'LISTED', event_id)) AS newest
    FROM
    (
        SELECT
            if(unreadable != '', '*', seller) AS seller,
            effective_at,
            recorded_at,
            event_id,
            event_name,
            source_system,
            hasAny(flags, ['whole_party', 'opt_out_whole_party']) AS whole_party,
            if(event_name = 'DncRemoved', 'REMOVED', 'LISTED') AS status,
            multiIf(
                event_name = 'CallEnded' OR unreadable != '' OR list_kind = 'UNKNOWN', 'INTERNAL',
                event_name = 'ConsentRefused', 'INTERNAL',
                list_kind) AS kind,
            multiIf(
                event_name = 'CallEnded' OR unreadable != '', 'internal',
                event_name = 'ConsentRefused', 'objection',
                list_id) AS list
        FROM {database}.timeline(
            subject = {subject:String},
            at = {at:DateTime64(6, 'UTC')},
            known_at = {known_at:DateTime64(6, 'UTC')})
        WHERE (unreadable = '' AND event_name = 'DncAdded')
            OR (unreadable = '' AND event_name = 'DncRemoved' AND list_kind != 'UNKNOWN')
            OR (unreadable = '' AND event_name = 'CallEnded' AND has(flags, 'opted_out'))
            OR (unreadable = '' AND event_name = 'ConsentRefused' AND has(flags, 'objection'))
            OR (unreadable != '' AND event_name IN ('ConsentWithdrawn', 'ConsentRefused', 'ConsentInvalidated', 'DncAdded'))
    )
    GROUP BY seller, kind, list
)
ORDER BY seller, list_kind, list_id;

-- Every call to the number with the permit that it cites, and the decision that gave it.
CREATE VIEW {database}.calls_and_permits AS
WITH known AS
(
    SELECT * FROM {database}.timeline(
        subject = {subject:String},
        at = {at:DateTime64(6, 'UTC')},
        known_at = {known_at:DateTime64(6, 'UTC')})
)
SELECT
    c.effective_at AS placed_at,
    c.recorded_at AS recorded_at,
    c.call_id AS call_id,
    c.seller_id AS seller_id,
    c.campaign_id AS campaign_id,
    c.purposes[1] AS purpose,
    c.modes[1] AS call_mode,
    c.permit_id AS permit_id,
    multiIf(
        c.permit_id = '', 'NONE',
        d.permit_id = '', 'UNKNOWN',
        d.verdict != 'ALLOW', 'NOT_ALLOWED',
        d.seller_id != c.seller_id, 'OTHER_SELLER',
        c.effective_at < d.effective_at, 'TOO_EARLY',
        c.effective_at >= coalesce(d.expires_at, d.effective_at + INTERVAL 60 SECOND), 'EXPIRED',
        'VALID') AS permit_status,
    if(d.permit_id = '', NULL, d.effective_at) AS decided_at,
    if(d.permit_id = '', NULL, coalesce(d.expires_at, d.effective_at + INTERVAL 60 SECOND)) AS permit_expires_at,
    d.event_id AS decision_id,
    d.verdict AS verdict,
    d.rulebook_digest AS rulebook_digest,
    e.outcome AS outcome,
    if(e.call_id = '', NULL, e.effective_at) AS ended_at
FROM (SELECT * FROM known WHERE event_name = 'CallPlaced' AND unreadable = '') AS c
LEFT ANY JOIN (SELECT * FROM known WHERE event_name = 'DialDecision' AND permit_id != '') AS d
    ON c.permit_id = d.permit_id
LEFT ANY JOIN (SELECT * FROM known WHERE event_name = 'CallEnded' AND unreadable = '') AS e
    ON c.call_id = e.call_id AND c.seller_id = e.seller_id
ORDER BY placed_at, call_id;
