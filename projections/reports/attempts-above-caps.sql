-- title: Attempts above caps
-- answers: State caps of calls in 24 hours or 30 days, Fla. Stat. 501.616(6)(b) among them, and 47 CFR 64.1200(a)(3), (a)(9) for exempted prerecorded calls.
-- finding: rows
-- reads: CallPlaced during (call_id, campaign_id)
-- reads: DialDecision until (verdict, reasons, rule, states, zones, rulebook_digest)
-- parameter: hours_max UInt32 24 How old the decision may be
-- note: By recorded decisions: the newest one about the same number and seller, not after the call, under the rulebook active then, denied for a cap or a cool-down, and the call was placed all the same. A call without a decision is in calls-without-permit.
-- column: placed_at When the call was placed
-- column: seller_id For whom
-- column: campaign_id In which campaign
-- column: call_id The dialer's id of the call
-- column: subject Token of the called number
-- column: decided_at When the decision was made
-- column: reasons Its reasons about caps
-- column: rule The rule that gave its primary reason
-- column: states Where the person may be
-- column: zones In which zones
-- column: rulebook_digest The rulebook it was made by
-- column: decision_id The decision
-- column: event_id The CallPlaced event
SELECT
    c.at AS placed_at,
    c.seller_id AS seller_id,
    c.campaign_id AS campaign_id,
    c.call_id AS call_id,
    c.subject AS subject,
    d.at AS decided_at,
    arrayIntersect(d.reasons, ['FREQ_CAP', 'PRERECORDED_CAP', 'PKG_NOTICE_CAP', 'REFUSAL_COOLDOWN', 'ABANDON_COOLDOWN_72H']) AS reasons,
    d.rule AS rule,
    d.states AS states,
    d.zones AS zones,
    d.rulebook_digest AS rulebook_digest,
    d.event_id AS decision_id,
    c.event_id AS event_id
FROM call_placed AS c
ASOF JOIN dial_decision AS d ON c.subject = d.subject AND c.seller_id = d.seller_id AND c.at >= d.at
WHERE d.verdict = 'DENY'
    AND hasAny(d.reasons, ['FREQ_CAP', 'PRERECORDED_CAP', 'PKG_NOTICE_CAP', 'REFUSAL_COOLDOWN', 'ABANDON_COOLDOWN_72H'])
    AND c.at < d.at + toIntervalHour({hours_max:UInt32})
    AND (empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)})
ORDER BY placed_at, call_id, event_id
