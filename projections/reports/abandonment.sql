-- title: Abandoned calls per campaign and successive 30 days
-- answers: 47 CFR 64.1200(a)(7)(i), 16 CFR 310.4(b)(4)(i): at most 3 % of calls answered live, per campaign, over each successive 30 days.
-- finding: column over_limit
-- reads: CallPlaced until (call_id, campaign_id, contact_kind)
-- reads: CallEnded until (call_id, campaign_id, contact_kind, outcome, answered_live, abandoned, greeting_ended_at, agent_connected_at)
-- reads: CampaignDeclared always (campaign_id, starts_at)
-- parameter: percent_max Float64 3 How many of 100 calls answered live may be abandoned
-- note: Periods follow one another from the campaign's declared start, else from its first call. Those that end after `from` and begin before `to` are shown.
-- note: A call is abandoned if its event says so, or if no agent was there within two seconds of the greeting's end; whoever it counts as abandoned counts as answered live. Each call counts once, whatever was published of it.
-- column: seller_id Whose campaign
-- column: campaign_id Which campaign
-- column: period_start_at First instant of the period
-- column: period_end_at Its end, not included
-- column: calls Calls placed
-- column: live_answered Answered by a person
-- column: abandoned Of these, abandoned
-- column: percent Abandoned of 100 answered live
-- column: over_limit Whether that is more than allowed
WITH
said AS
(
    SELECT seller_id, assumeNotNull(campaign_id) AS campaign_id, call_id, at, false AS live, false AS gone
    FROM call_placed WHERE campaign_id IS NOT NULL AND contact_kind NOT IN ('TEXT', 'RINGLESS_VOICEMAIL')
    UNION ALL
    SELECT seller_id, assumeNotNull(campaign_id), call_id, at,
        ifNull(answered_live, outcome IN ('ANSWERED_LIVE', 'ABANDONED', 'TRANSFERRED', 'REFUSED')) AS person,
        ifNull(abandoned, false) OR outcome = 'ABANDONED'
            OR (person AND ifNull(date_diff('microsecond', greeting_ended_at, agent_connected_at) > 2000000, false))
    FROM call_ended WHERE campaign_id IS NOT NULL AND contact_kind NOT IN ('TEXT', 'RINGLESS_VOICEMAIL')
),
calls AS
(
    SELECT seller_id, campaign_id, call_id, min(said.at) AS at, max(said.live OR said.gone) AS live, max(said.gone) AS gone
    FROM said
    WHERE empty({sellers:Array(String)}) OR seller_id IN {sellers:Array(String)}
    GROUP BY seller_id, campaign_id, call_id
),
starts AS
(
    SELECT seller_id, campaign_id, argMax(starts_at, (at, event_id)) AS starts_at
    FROM campaign_declared GROUP BY seller_id, campaign_id
),
placed AS
(
    SELECT calls.*,
        ifNull(starts.starts_at, min(calls.at) OVER (PARTITION BY calls.seller_id, calls.campaign_id)) AS counted_from,
        toInt64(floor(date_diff('microsecond', counted_from, calls.at) / 2592000000000)) AS nth
    FROM calls LEFT JOIN starts ON calls.seller_id = starts.seller_id AND calls.campaign_id = starts.campaign_id
)
SELECT
    seller_id,
    campaign_id,
    any(counted_from) + toIntervalDay(30 * nth) AS period_start_at,
    period_start_at + INTERVAL 30 DAY AS period_end_at,
    count() AS calls,
    countIf(live) AS live_answered,
    countIf(gone) AS abandoned,
    if(live_answered = 0, 0, round(100 * abandoned / live_answered, 3)) AS percent,
    (live_answered > 0 AND abandoned * 100 > {percent_max:Float64} * live_answered)::Bool AS over_limit
FROM placed
GROUP BY seller_id, campaign_id, nth
HAVING period_end_at > {from:DateTime64(6, 'UTC')} AND period_start_at < {to:DateTime64(6, 'UTC')}
ORDER BY seller_id, campaign_id, period_start_at
