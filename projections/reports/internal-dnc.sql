-- title: Internal do-not-call requests with their dates
-- answers: 47 CFR 64.1200(d)(6), 16 CFR 310.5(a)(10): the list of who asked not to be called, kept five years.
-- finding: none
-- reads: DncAdded until (list_kind, list_id, all_sellers, whole_party, requested_at, call_id, campaign_id)
-- reads: DncRemoved until (list_kind, list_id, all_sellers, reason)
-- reads: CallEnded until (call_id, campaign_id, opted_out, opted_out_at, opt_out_all_sellers, opt_out_whole_party)
-- reads: ConsentRefused until (objection, call_id, campaign_id)
-- personal: number, name
-- note: All requests up to `to`, since they are kept; `from` is not looked at.
-- column: seller Whom the person does not want calls from, * for everybody
-- column: subject Token of the number
-- column: number The number; ERASED where its evidence was erased
-- column: name The name given
-- column: requested_at When the person asked
-- column: recorded_at When the log took it
-- column: kind Event type of the request
-- column: whole_party Whether it is for all numbers of the person
-- column: campaign_id In which campaign it was made
-- column: call_id In which call
-- column: removed_at When the entry was taken off the list
-- column: removed_reason Why
-- column: event_id The request
WITH
requests AS
(
    SELECT if(all_sellers, '*', seller_id) AS seller, seller_id, subject, ifNull(requested_at, at) AS requested, recorded_at, 'DncAdded' AS kind,
        whole_party AS whole, campaign_id, call_id, event_id, list_id, at, log_id, partition, offset
    FROM dnc_added WHERE list_kind IN ('INTERNAL', 'UNKNOWN')
    UNION ALL
    SELECT if(opt_out_all_sellers, '*', seller_id), seller_id, subject, ifNull(opted_out_at, at), recorded_at, 'CallEnded',
        opt_out_whole_party, campaign_id, call_id, event_id, 'internal', at, log_id, partition, offset
    FROM call_ended WHERE opted_out
    UNION ALL
    SELECT seller_id, seller_id, subject, at, recorded_at, 'ConsentRefused', false, campaign_id, call_id, event_id, 'objection', at, log_id, partition, offset
    FROM consent_refused WHERE objection
),
removals AS
(
    SELECT if(all_sellers, '*', seller_id) AS seller, subject, list_id, groupArray((at, reason)) AS removed
    FROM dnc_removed WHERE list_kind = 'INTERNAL' GROUP BY seller, subject, list_id
)
SELECT
    r.seller AS seller,
    r.subject AS subject,
    multiIf(NOT {personal:Bool}, NULL, e.offset IS NULL, 'ERASED', e.number) AS number,
    multiIf(NOT {personal:Bool}, NULL, e.offset IS NULL, 'ERASED', e.name) AS name,
    r.requested AS requested_at,
    r.recorded_at AS recorded_at,
    r.kind AS kind,
    r.whole AS whole_party,
    r.campaign_id AS campaign_id,
    r.call_id AS call_id,
    if(empty(d.removed) OR arrayFirst(x -> x.1 > r.at, arraySort(d.removed)).1 <= r.at, NULL, arrayFirst(x -> x.1 > r.at, arraySort(d.removed)).1) AS removed_at,
    if(removed_at IS NULL, NULL, arrayFirst(x -> x.1 > r.at, arraySort(d.removed)).2) AS removed_reason,
    r.event_id AS event_id
FROM requests AS r
LEFT JOIN removals AS d ON r.seller = d.seller AND r.subject = d.subject AND r.list_id = d.list_id
LEFT ANY JOIN personal_evidence AS e ON r.log_id = e.log_id AND r.partition = e.partition AND r.offset = e.offset
WHERE empty({sellers:Array(String)}) OR r.seller_id IN {sellers:Array(String)}
ORDER BY requested_at, event_id
