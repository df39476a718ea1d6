-- title: Registry versions used, per campaign, and their age
-- answers: 16 CFR 310.5(a)(11), 310.4(b)(3)(iv); 47 CFR 64.1200(c)(2)(i)(D): a version of the registry not older than 31 days, with records of it.
-- finding: column too_old
-- reads: DialDecision.lists during (campaign_id, verdict, list_id, area, version, version_date, member)
-- parameter: days_max UInt32 31 How many days a version may be old
-- note: Versions are those that recorded decisions used; the age is that on the last day of use. Only decisions that allowed a call count for too_old.
-- column: seller_id For whom
-- column: campaign_id In which campaign
-- column: list_id Which list
-- column: area Which part of it
-- column: version Which version
-- column: version_date Its date
-- column: obtained_at When it was obtained, where that was published
-- column: first_used_at First decision that used it
-- column: last_used_at Last decision that used it
-- column: decisions How many did
-- column: allowed How many of these allowed the call
-- column: age_days Days from its date to the last use
-- column: too_old Whether a call was allowed by a version that is too old, or of unknown age
SELECT
    u.seller_id AS seller_id,
    u.campaign_id AS campaign_id,
    u.list_id AS list_id,
    u.area AS area,
    u.version AS version,
    u.version_date AS version_date,
    p.obtained_at AS obtained_at,
    u.first_used_at AS first_used_at,
    u.last_used_at AS last_used_at,
    u.decisions AS decisions,
    u.allowed AS allowed,
    dateDiff('day', u.version_date, toDate32(u.last_used_at, 'UTC')) AS age_days,
    (u.allowed > 0 AND ifNull(dateDiff('day', u.version_date, toDate32(u.last_allowed_at, 'UTC')) > {days_max:UInt32}, true))::Bool AS too_old
FROM
(
    SELECT seller_id, ifNull(campaign_id, '') AS campaign_id, list_id, ifNull(area, '') AS area, version, version_date,
        min(at) AS first_used_at, max(at) AS last_used_at, count() AS decisions,
        countIf(verdict = 'ALLOW') AS allowed, maxIf(at, verdict = 'ALLOW') AS last_allowed_at
    FROM dial_decision_lists
    WHERE version IS NOT NULL AND (empty({sellers:Array(String)}) OR seller_id IN {sellers:Array(String)})
    GROUP BY seller_id, campaign_id, list_id, area, version, version_date
) AS u
LEFT ANY JOIN
(
    SELECT list_id, area, version, min(obtained_at) AS obtained_at FROM registry_versions
    WHERE recorded_at <= {known_at:DateTime64(6, 'UTC')} GROUP BY list_id, area, version
) AS p ON u.list_id = p.list_id AND u.area = p.area AND u.version = p.version
ORDER BY seller_id, campaign_id, list_id, area, version_date, version
