"""From a question as it is asked, with a number, to a request that can be decided about."""

from __future__ import annotations

from typing import Final

from consent.call import CallRequest
from consent.documents import holds_person, number_needles
from consent.errors import Rejected
from consent.places import Stated, candidates, recorded_places
from consent.state import SubjectState
from consent_ledger.api.models import CallQuestion

_TEXTS: Final = (
    "seller_id",
    "campaign_id",
    "subject_matter",
    "request_id",
    "telemarketer_id",
    "good_or_service",
    "caller_id_number",
    "script_id",
    "script_version",
    "message_id",
    "shipment_id",
)
_AS_ASKED: Final = (
    *_TEXTS,
    "purpose",
    "call_mode",
    "dial_mode",
    "party",
    "sector",
    "message_class",
    "emergency_purpose",
    "failed_signature_attempts",
    "test",
)


def call_request(
    request: CallQuestion, number: str, state: SubjectState, profile: str
) -> CallRequest:
    """The request without number and postal code, and with every place that they and facts name."""
    needles = number_needles(number)
    for name in _TEXTS:
        text = getattr(request, name)
        if text is not None and holds_person(text, needles):
            remedy = "decisions are kept for ever: use an identifier without the person's number"
            raise Rejected("PERSON_IN_PAYLOAD", name, "(not shown)", remedy)
    asked = Stated(tuple(request.states), tuple(request.zones))
    recorded = recorded_places(state, test=request.test)
    places = candidates(number, [asked, *recorded], request.postal_code)
    return CallRequest(
        **{name: getattr(request, name) for name in _AS_ASKED},
        profile=profile,
        states=places.states,
        zones=places.zones,
        counties=tuple(request.counties),
    )
