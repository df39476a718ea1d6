"""`POST /v1/privacy/...`: erasing a person, and telling what is held on one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody

from consent.certificates import certificate_text
from consent.numbers import canonical_number
from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import Principal, signed_in
from consent_ledger.api.models import Identifier, NumberText
from consent_ledger.api.parts import ApiRequest, parts_of
from consent_ledger.api.problems import Problem
from consent_ledger.disclosing import disclosure_text
from consent_ledger.erasing import ErasureOrder


class ErasureRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Erase all that identifies the person of a number. `regulation` is what they invoked.

    The same `request_id` again goes on with the same erasure and gives the same certificate.
    """

    number: NumberText
    request_id: Identifier
    regulation: Identifier | None = None


class ErasureAnswer(msgspec.Struct, kw_only=True):
    """`erased` with a certificate, as JSON content and as text; or `refused`, and by which holds.

    The SHA-256 of the certificate as canonical JSON is sealed in the proof log.
    """

    status: Literal["erased", "refused"]
    request_id: str
    certificate: dict[str, Any] | None
    certificate_text: str
    ground: str
    hold_ids: list[str]


class AccessRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Tell all that is held on the person of a number."""

    number: NumberText


class AccessAnswer(msgspec.Struct, kw_only=True):
    """All that is held: events with their evidence, the state that callers are shown, dead letters.

    This one answer repeats the number. `text` says the same for a person to read.
    """

    content: Annotated[dict[str, Any], msgspec.Meta(description="Machine-readable")]
    text: str


class PrivacyController(Controller):
    """Requests of data subjects, carried out by the privacy office."""

    path = "/v1/privacy"
    tags = ("privacy",)
    guards = (signed_in,)

    @post("/erasures", summary="Erase a person", status_code=200)
    async def erase(
        self, request: ApiRequest, data: JSONBody[ErasureRequest], why: Why = None
    ) -> ErasureAnswer:
        """Erase number and evidence of a person; go on refusing to call them.

        Answers once no query finds their evidence and callers are refused. A legal hold refuses
        it: release the hold, and ask again with another `request_id`. Takes the role privacy.
        """
        _for_every_seller(request.user)
        parts = parts_of(request)
        office = parts.privacy
        number = canonical_number(data.number, parts.region_default)
        subject = office.erasing.subject_of(number)
        await parts.accesses.record(request.user, "erasure", why, subject)
        order = ErasureOrder(number, data.request_id, data.regulation)
        outcome = await office.erasing.erase(order)
        certificate = outcome.certificate
        return ErasureAnswer(
            status=outcome.status,
            request_id=data.request_id,
            certificate=certificate,
            certificate_text="" if certificate is None else certificate_text(certificate),
            ground=outcome.ground,
            hold_ids=list(outcome.hold_ids),
        )

    @post("/access", summary="All that is held on a person", status_code=200)
    async def access(
        self, request: ApiRequest, data: JSONBody[AccessRequest], why: Why = None
    ) -> AccessAnswer:
        """Everything that the ledger holds on a number, evidence included.

        Takes the role privacy: this is the one answer with evidence and number in it. Who asked,
        and why, is kept for ever.
        """
        _for_every_seller(request.user)
        parts = parts_of(request)
        number = canonical_number(data.number, parts.region_default)
        subject = parts.privacy.erasing.subject_of(number)
        await parts.accesses.record(request.user, "access", why, subject)
        content = await parts.privacy.disclosed(number)
        return AccessAnswer(content=content, text=disclosure_text(content))


def _for_every_seller(principal: Principal) -> None:
    """A person is one, whichever seller asks: a key that is bound to some can't speak for all."""
    principal.require("privacy")
    if principal.seller_ids is not None:
        raise Problem("forbidden", "this key is bound to sellers; it can't act for all of them")
