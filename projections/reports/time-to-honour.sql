-- title: Time to honour a request
-- answers: 47 CFR 64.1200(a)(10) and (d)(3): within a reasonable time, not more than 10 business days after the request.
-- finding: column overdue
-- with: honoured-requests
-- column: seller_id Whom the requests were made to
-- column: kind Event type of the requests
-- column: channel How they were made
-- column: requests How many
-- column: seconds_p50 Half were honoured within so many seconds
-- column: seconds_p99 99 of 100 were
-- column: seconds_max The slowest
-- column: business_days_max The most business days
-- column: late How many took more than allowed
-- column: overdue Whether any did
SELECT
    seller_id,
    event_name AS kind,
    channel,
    count() AS requests,
    quantileExactInclusive(0.5)(seconds) AS seconds_p50,
    quantileExactInclusive(0.99)(seconds) AS seconds_p99,
    max(seconds) AS seconds_max,
    max(business_days) AS business_days_max,
    countIf(business_days > {business_days_max:UInt32}) AS late,
    (late > 0)::Bool AS overdue
FROM honoured
GROUP BY seller_id, event_name, channel
ORDER BY seller_id, kind, channel
