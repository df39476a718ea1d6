-- Decisions are facts: a view can't differ from them and needs no second write. An event published
-- twice counts once, as its first row.
CREATE VIEW {database}.decisions AS
SELECT
    event_id,
    recorded_at,
    occurred_at,
    subject,
    seller_id,
    test,
    campaign_id,
    purposes[1] AS purpose,
    modes[1] AS call_mode,
    dial_mode,
    subject_matters[1] AS subject_matter,
    verdict,
    reason,
    reasons,
    rule,
    rulebook_digest,
    permit_id,
    request_id,
    states,
    log_id,
    topic,
    partition,
    offset
FROM {database}.facts
WHERE event_name = 'DialDecision' AND unreadable = ''
ORDER BY recorded_at, topic, partition, offset
LIMIT 1 BY event_id;
