-- title: Requests that were honoured late
-- answers: 47 CFR 64.1200(a)(10) and (d)(3): within a reasonable time, not more than 10 business days after the request.
-- finding: rows
-- with: honoured-requests
-- column: requested_at When the person made the request
-- column: recorded_at When the log took it
-- column: honoured_at From when on no call was allowed
-- column: business_days Business days in between
-- column: seller_id Whom it was made to
-- column: subject Token of the person's number
-- column: kind Event type of the request
-- column: channel How it was made
-- column: event_id The request
SELECT
    requested_at,
    recorded_at,
    honoured_at,
    business_days,
    seller_id,
    subject,
    event_name AS kind,
    channel,
    event_id
FROM honoured
WHERE business_days > {business_days_max:UInt32}
ORDER BY requested_at, event_id
