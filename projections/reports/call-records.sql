-- title: Call records of 16 CFR 310.5(a)(2)
-- answers: 16 CFR 310.5(a)(2): for each call placed or received, in the rule's own words; kept five years.
-- finding: none
-- reads: CallPlaced during (call_id, campaign_id, telemarketer_id, purpose, call_mode, party, good_or_service, caller_id_number, caller_id_name, caller_id_authorisation_id, script_id, script_version, message_id, calling_number, permit_id)
-- reads: CallEnded until (call_id, outcome, answered_at, ended_at, duration_seconds, transferred_to, disposition)
-- personal: called_number
-- note: One row per CallPlaced of the period. Calls received are not published to this ledger.
-- column: telemarketer (i) The telemarketer who placed or received the call
-- column: seller (ii) The seller for whom
-- column: good_or_service (iii) The good, service or charitable purpose
-- column: consumer_or_business (iv) Whether the call is to a consumer or a business
-- column: outbound (v) Whether it is an outbound call
-- column: prerecorded (vi) Whether it used a prerecorded message
-- column: calling_number (vii) The calling number
-- column: called_number (vii) The called number; ERASED where its evidence was erased
-- column: called_number_token Token of the called number
-- column: date (vii) Date of the call, UTC
-- column: time (vii) Time of the call, UTC
-- column: duration_seconds (vii) Duration
-- column: script_or_recording (viii) The script or prerecorded message used
-- column: caller_id_number (ix) The caller ID number transmitted
-- column: caller_id_name (ix) The caller ID name transmitted
-- column: caller_id_authorisation (ix) The authorisation to use it
-- column: disposition (x) Answered, dropped, transferred
-- column: transferred_to (x) To whom it was transferred
-- column: campaign_id The campaign
-- column: call_id The dialer's id of the call
-- column: permit_id The permit that it cites
-- column: event_id The CallPlaced event
SELECT
    c.telemarketer_id AS telemarketer,
    c.seller_id AS seller,
    c.good_or_service AS good_or_service,
    c.party AS consumer_or_business,
    true AS outbound,
    (c.call_mode IN ('PRERECORDED', 'ARTIFICIAL', 'AI_VOICE'))::Bool AS prerecorded,
    ifNull(c.calling_number, c.caller_id_number) AS calling_number,
    multiIf(NOT {personal:Bool}, NULL, p.offset IS NULL, 'ERASED', p.number) AS called_number,
    c.subject AS called_number_token,
    toDate32(c.at, 'UTC') AS date,
    formatDateTime(c.at, '%H:%i:%S', 'UTC') AS time,
    ifNull(e.duration_seconds, date_diff('second', e.answered_at, e.ended_at)) AS duration_seconds,
    arrayStringConcat(arrayFilter(x -> x != '', [concat(ifNull(c.script_id, ''), if(c.script_version IS NULL, '', concat(' ', c.script_version))), ifNull(c.message_id, '')]), '; ') AS script_or_recording,
    c.caller_id_number AS caller_id_number,
    c.caller_id_name AS caller_id_name,
    c.caller_id_authorisation_id AS caller_id_authorisation,
    arrayStringConcat(arrayFilter(x -> x != '', [ifNull(e.outcome, ''), ifNull(e.disposition, '')]), '; ') AS disposition,
    e.transferred_to AS transferred_to,
    c.campaign_id AS campaign_id,
    c.call_id AS call_id,
    c.permit_id AS permit_id,
    c.event_id AS event_id
FROM call_placed AS c
LEFT ANY JOIN (SELECT * FROM call_ended ORDER BY recorded_at, offset) AS e ON c.call_id = e.call_id AND c.seller_id = e.seller_id
LEFT ANY JOIN personal_evidence AS p ON c.log_id = p.log_id AND c.partition = p.partition AND c.offset = p.offset
WHERE empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)}
ORDER BY c.at, call_id, event_id
