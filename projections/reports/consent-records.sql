-- title: Consent records of 16 CFR 310.5(a)(8)
-- answers: 16 CFR 310.5(a)(8): for each consent the person's name and number, a copy of the request as shown, the purpose requested and given, a copy of the consent, and its date.
-- finding: column incomplete
-- reads: ConsentGranted until (consent_kind, change, purposes, modes, subject_matters, good_or_service, request_copy_sha256, consent_copy_sha256, expires_at, campaign_id, telemarketer_id)
-- personal: name, telephone_number, copy_of_request, copy_of_consent, request_wording
-- note: All consents given up to `to`; `from` is not looked at. Incomplete: the name, a copy of the request or a copy of the consent was not published with it, or its evidence is gone.
-- column: name Name of the person; ERASED where the evidence was erased
-- column: telephone_number Their number
-- column: telephone_number_token Token of the number
-- column: copy_of_request Where the copy of the request is, in the manner and format shown
-- column: request_wording The words of the request
-- column: request_copy_sha256 Digest of that copy
-- column: purpose The purpose for which consent was requested and given
-- column: modes How the person may be called
-- column: good_or_service For what
-- column: copy_of_consent Where the copy of the consent is
-- column: consent_copy_sha256 Digest of that copy
-- column: date Date on which consent was given, UTC
-- column: consent_kind Kind of consent
-- column: seller To whom it was given
-- column: expires_at Its end, where it has one of its own
-- column: erased Whether the evidence was erased
-- column: incomplete Whether the record lacks what the rule asks for
-- column: event_id The ConsentGranted event
SELECT
    multiIf(NOT {personal:Bool}, NULL, erased, 'ERASED', p.name) AS name,
    multiIf(NOT {personal:Bool}, NULL, erased, 'ERASED', p.number) AS telephone_number,
    c.subject AS telephone_number_token,
    multiIf(NOT {personal:Bool}, NULL, erased, 'ERASED', p.request_copy_uri) AS copy_of_request,
    multiIf(NOT {personal:Bool}, NULL, erased, 'ERASED', p.wording) AS request_wording,
    c.request_copy_sha256 AS request_copy_sha256,
    arrayStringConcat(c.purposes, ', ') AS purpose,
    arrayStringConcat(c.modes, ', ') AS modes,
    c.good_or_service AS good_or_service,
    multiIf(NOT {personal:Bool}, NULL, erased, 'ERASED', p.consent_copy_uri) AS copy_of_consent,
    c.consent_copy_sha256 AS consent_copy_sha256,
    toDate32(c.at, 'UTC') AS date,
    c.consent_kind AS consent_kind,
    c.seller_id AS seller,
    c.expires_at AS expires_at,
    (k.offset IS NULL)::Bool AS erased,
    (erased OR NOT (
        bitTest(c.elements, 0)
        AND (bitTest(c.elements, 9) OR c.request_copy_sha256 IS NOT NULL)
        AND (bitTest(c.elements, 10) OR c.consent_copy_sha256 IS NOT NULL)))::Bool AS incomplete,
    c.event_id AS event_id
FROM consent_granted AS c
LEFT ANY JOIN
(
    SELECT lower(hex(log_id)) AS log_id, partition, offset FROM evidence
    WHERE (evidence.log_id, partition, offset) IN (SELECT toFixedString(unhex(log_id), 16), partition, offset FROM consent_granted)
) AS k ON c.log_id = k.log_id AND c.partition = k.partition AND c.offset = k.offset
LEFT ANY JOIN personal_evidence AS p ON c.log_id = p.log_id AND c.partition = p.partition AND c.offset = p.offset
WHERE c.change != 'REQUESTED' AND (empty({sellers:Array(String)}) OR c.seller_id IN {sellers:Array(String)})
ORDER BY c.at, event_id
