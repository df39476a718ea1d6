"""Consent receipts of a grant, in the two forms that other programs read.

Kantara Consent Receipt v1.1, and ISO/IEC TS 27560:2023 as JSON-LD in the terms of the W3C's Data
Privacy Vocabulary. What nobody recorded is said to be so and never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from consent.instants import MICROSECONDS, instant_text

Fields = Mapping[str, Any]

NOT_RECORDED: Final = "not recorded"
KANTARA_VERSION: Final = "KI-CR-v1.1.0"
RECORD_SCHEMA: Final = "https://w3id.org/dpv/schema/iso-27560"
CONTEXT: Final = {
    "dpv": "https://w3id.org/dpv#",
    "dct": "http://purl.org/dc/terms/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "ledger": "https://consent-ledger.example/terms#",
}
_PURPOSES: Final[Mapping[str, tuple[str, str, str]]] = {
    "MARKETING": ("To market goods or services", "6 - Marketing", "dpv:DirectMarketing"),
    "INFORMATIONAL": ("To inform", "4 - Contact Requested", "dpv:CommunicationManagement"),
    "TRANSACTIONAL": ("To serve a contract", "2 - Contracted Service", "dpv:ServiceProvision"),
    "SURVEY": ("To ask for opinions", "16 - Improve Performance", "dpv:Purpose"),
    "DEBT": ("To collect a debt", "2 - Contracted Service", "dpv:PaymentManagement"),
}
_STATUS: Final = {
    "REQUESTED": "dpv:ConsentRequested",
    "GIVEN": "dpv:ConsentGiven",
    "RENEWED": "dpv:RenewedConsentGiven",
    "SCOPE_CHANGED": "dpv:ConsentGiven",
}
_BASES: Final = {
    "CONSENT": "dpv:Consent",
    "CONTRACT": "dpv:Contract",
    "LEGAL_OBLIGATION": "dpv:LegalObligation",
    "VITAL_INTERESTS": "dpv:VitalInterest",
    "PUBLIC_TASK": "dpv:PublicInterest",
    "LEGITIMATE_INTERESTS": "dpv:LegitimateInterest",
}


def kantara_receipt(grant: Fields, principal: str, campaign: Fields | None) -> dict[str, Any]:
    """The receipt of a grant, given its fact's fields; `principal` stands for the person."""
    recipients = grant["recipients"]
    termination = grant["retention_period"] or grant["validity"] or _until(grant)
    purposes = [
        {
            "purpose": f"{_PURPOSES[purpose][0]}, by {_ways(grant)}",
            "purposeCategory": [_PURPOSES[purpose][1]],
            "consentType": "IMPLICIT" if grant["consent_kind"] == "IMPLIED" else "EXPLICIT",
            "piiCategory": list(grant["data_categories"]) or ["2 - Contact"],
            "primaryPurpose": number == 0,
            "termination": termination,
            "thirdPartyDisclosure": bool(recipients),
            **({"thirdPartyName": ", ".join(recipients)} if recipients else {}),
        }
        for number, purpose in enumerate(_known(grant))
    ]
    receipt = {
        "version": KANTARA_VERSION,
        "jurisdiction": grant["jurisdiction"] or NOT_RECORDED,
        "consentTimestamp": grant["occurred_at"] // MICROSECONDS,
        "collectionMethod": grant["collection_method"],
        "consentReceiptID": grant["event_id"],
        "language": grant["language"] or NOT_RECORDED,
        "piiPrincipalId": principal,
        "piiControllers": [_controller(grant, campaign)],
        "policyUrl": grant["notice_uri"] or _of(campaign, "policy_url"),
        "services": [
            {"service": grant["good_or_service"] or "Telephone calls", "purposes": purposes}
        ],
        "sensitive": False,
        "spiCat": [],
    }
    if grant["language"] is None:
        del receipt["language"]
    return receipt


def consent_record(
    grant: Fields, principal: str, campaign: Fields | None, events: Sequence[Fields]
) -> dict[str, Any]:
    """The record of a grant; `events` are what became of it, oldest first, the grant among them.

    Each has `state` (a term of DPV), `time` in µs and `by`.
    """
    record: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@id": f"urn:uuid:{grant['event_id']}",
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": RECORD_SCHEMA,
        "dct:identifier": grant["event_id"],
        "dct:created": instant_text(grant["occurred_at"]),
        "dct:modified": instant_text(events[-1]["time"]),
        "dpv:hasDataSubject": {
            "@type": "dpv:Consumer" if grant["party"] == "CONSUMER" else "dpv:DataSubject",
            "dct:identifier": principal,
        },
        "dpv:hasDataController": _controller_record(grant, campaign),
        "dpv:hasNotice": [_notice(grant)],
        "dpv:hasJurisdiction": grant["jurisdiction"] or NOT_RECORDED,
        "dpv:hasLegalBasis": _BASES.get(grant["lawful_basis"], "dpv:Consent"),
        "dpv:hasProcess": [_process(grant, purpose) for purpose in _known(grant)],
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dpv:isExercisedAt": list(grant["withdrawal_methods"]) or [NOT_RECORDED],
        },
        "dpv:hasConsentStatus": [_event(grant, one) for one in events],
        "ledger:consentKind": grant["consent_kind"],
        "ledger:modes": list(grant["modes"]),
    }
    if grant["expires_at"] is not None:
        record["dct:valid"] = instant_text(grant["expires_at"])
    return record


def consent_state(change: str) -> str:
    """The term of DPV for what a grant says of itself."""
    return _STATUS.get(change, "dpv:ConsentUnknown")


def _known(grant: Fields) -> list[str]:
    return [purpose for purpose in grant["purposes"] if purpose in _PURPOSES]


def _ways(grant: Fields) -> str:
    ways = [mode.lower().replace("_", " ") for mode in grant["modes"]]
    return (" or ".join(ways) or "no kind of") + " calls"


def _until(grant: Fields) -> str:
    at = grant["expires_at"]
    return "until it is taken back" if at is None else instant_text(at)


def _of(campaign: Fields | None, name: str) -> str:
    value = None if campaign is None else campaign[name]
    return str(value) if value else NOT_RECORDED


def _controller(grant: Fields, campaign: Fields | None) -> dict[str, Any]:
    name = _of(campaign, "seller_name")
    address = _of(campaign, "seller_address")
    contact = _of(campaign, "seller_contact")
    return {
        "piiController": grant["seller_id"] if name == NOT_RECORDED else name,
        "onBehalf": False,
        "contact": contact,
        "address": {"streetAddress": address},
        "email": contact if "@" in contact else NOT_RECORDED,
        "phone": contact if contact.startswith("+") else NOT_RECORDED,
    }


def _controller_record(grant: Fields, campaign: Fields | None) -> dict[str, Any]:
    return {
        "@type": "dpv:DataController",
        "dct:identifier": grant["seller_id"],
        "dpv:hasName": _of(campaign, "seller_name"),
        "dpv:hasAddress": _of(campaign, "seller_address"),
        "dpv:hasContact": _of(campaign, "seller_contact"),
    }


def _notice(grant: Fields) -> dict[str, Any]:
    digest = grant["notice_sha256"]
    return {
        "@type": "dpv:ConsentNotice",
        "dct:identifier": grant["notice_id"] or NOT_RECORDED,
        "dct:hasVersion": grant["notice_version"] or NOT_RECORDED,
        "dct:language": grant["language"] or NOT_RECORDED,
        "dpv:hasLocation": grant["notice_uri"] or NOT_RECORDED,
        "ledger:sha256": NOT_RECORDED if digest is None else digest.hex(),
    }


def _process(grant: Fields, purpose: str) -> dict[str, Any]:
    text, _, term = _PURPOSES[purpose]
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {"@type": term, "dct:title": text, "dct:identifier": purpose},
        "dpv:hasPersonalData": list(grant["data_categories"]) or ["telephone number"],
        "dpv:hasDataSource": {"@type": "dpv:DataSubject", "dct:title": grant["collection_method"]},
        "dpv:hasRecipient": list(grant["recipients"]) or [grant["seller_id"]],
        "dpv:hasStorageCondition": [
            {
                "@type": "dpv:StorageLocation",
                "dpv:hasLocation": grant["storage_location"] or NOT_RECORDED,
            },
            {
                "@type": "dpv:StorageDuration",
                "dpv:hasDuration": grant["retention_period"] or NOT_RECORDED,
            },
        ],
        "dpv:hasService": grant["good_or_service"] or "Telephone calls",
    }


def _event(grant: Fields, one: Fields) -> dict[str, Any]:
    implied = grant["consent_kind"] == "IMPLIED"
    return {
        "@type": one["state"],
        "dct:date": instant_text(one["time"]),
        "dpv:hasLegalBasis": "dpv:ImpliedConsent" if implied else "dpv:ExpressedConsent",
        "dpv:isIndicatedBy": one["by"],
        "dct:valid": grant["validity"] or _until(grant),
    }
