-- title: Policies, training, registrations, caller ids, breaches and complaints
-- answers: What a regulator asks a call centre for first: 47 CFR 64.1200(d)(1)-(2), 16 CFR 310.4(b)(3) policies and training; state registrations and bonds; complaints.
-- finding: none
-- reads: PolicyAdopted until (policy_id, version, effective_from, uri, areas)
-- reads: TrainingCompleted until (training_id, policy_id, people, valid_until, staff_group, job_title)
-- reads: RegistrationFiled until (registration_id, jurisdiction, registration_kind, valid_from, valid_until, campaign_id, withdrawn)
-- reads: CallerIdAuthorised until (authorisation_id, valid_from, valid_until, provider_id, number_kind, withdrawn)
-- reads: ComplaintRecorded until (complaint_id, regulator, received_at, campaign_id, category, call_id, resolved_at, outcome)
-- reads: BreachRecorded until (breach_id, found_at, campaign_id, reason, calls, reported_to, reported_at, remedy)
-- note: All records up to `to`, since they are kept; `from` is not looked at.
-- column: happened_at When it happened
-- column: recorded_at When the log took it
-- column: seller_id Whose record it is
-- column: kind Event type
-- column: record_id Id of the policy, training, registration, complaint
-- column: version Version of a policy, or the policy that training was about
-- column: what What it is about
-- column: from_date From when it holds
-- column: until_date Until when it holds, or when it was resolved
-- column: campaign_id For which campaign, where it is for one
-- column: details Further fields, as name=value
-- column: event_id The event
SELECT at AS happened_at, recorded_at, seller_id, kind, record_id, version, what, from_date, until_date, campaign_id, details, event_id
FROM
(
    SELECT at, recorded_at, seller_id, 'PolicyAdopted' AS kind, policy_id AS record_id, version AS version, arrayStringConcat(areas, ', ') AS what,
        toNullable(effective_from) AS from_date, CAST(NULL, 'Nullable(Date32)') AS until_date, '' AS campaign_id,
        if(uri IS NULL, '', concat('uri=', uri)) AS details, event_id
    FROM policy_adopted
    UNION ALL
    SELECT at, recorded_at, seller_id, 'TrainingCompleted', training_id, policy_id, ifNull(staff_group, ''),
        toNullable(toDate32(at, 'UTC')), valid_until, '',
        concat('people=', toString(people), if(job_title IS NULL, '', concat(' job_title=', job_title))), event_id
    FROM training_completed
    UNION ALL
    SELECT at, recorded_at, seller_id, 'RegistrationFiled', registration_id, '', concat(registration_kind, ' ', jurisdiction),
        toNullable(valid_from), valid_until, ifNull(campaign_id, ''), if(withdrawn, 'withdrawn=true', ''), event_id
    FROM registration_filed
    UNION ALL
    SELECT at, recorded_at, seller_id, 'CallerIdAuthorised', authorisation_id, '', ifNull(number_kind, ''),
        toNullable(toDate32(valid_from, 'UTC')), toDate32(valid_until, 'UTC'), '',
        concat(if(provider_id IS NULL, '', concat('provider_id=', provider_id)), if(withdrawn, ' withdrawn=true', '')), event_id
    FROM caller_id_authorised
    UNION ALL
    SELECT at, recorded_at, seller_id, 'ComplaintRecorded', complaint_id, '', ifNull(category, ''),
        toNullable(toDate32(received_at, 'UTC')), toDate32(resolved_at, 'UTC'), ifNull(campaign_id, ''),
        arrayStringConcat(arrayFilter(x -> x != '', [if(regulator IS NULL, '', concat('regulator=', regulator)),
            if(call_id IS NULL, '', concat('call_id=', call_id)), if(outcome IS NULL, '', concat('outcome=', outcome))]), ' '), event_id
    FROM complaint_recorded
    UNION ALL
    SELECT at, recorded_at, seller_id, 'BreachRecorded', breach_id, '', ifNull(reason, ''),
        toNullable(toDate32(found_at, 'UTC')), toDate32(reported_at, 'UTC'), ifNull(campaign_id, ''),
        arrayStringConcat(arrayFilter(x -> x != '', [if(calls IS NULL, '', concat('calls=', toString(calls))),
            if(reported_to IS NULL, '', concat('reported_to=', reported_to)), if(remedy IS NULL, '', concat('remedy=', remedy))]), ' '), event_id
    FROM breach_recorded
)
WHERE empty({sellers:Array(String)}) OR seller_id IN {sellers:Array(String)}
ORDER BY happened_at, kind, event_id
