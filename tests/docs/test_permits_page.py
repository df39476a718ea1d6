"""The worked example of verifying a permit does what it says."""

from __future__ import annotations

import base64
import json
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc.errors import ExpiredTokenError, SecurityWarning

from consent.instants import MICROSECONDS
from consent.permits import PermitKey, public_jwk
from consent.privacy import subject_token
from tests.permits import TERMS

PAGE = (Path(__file__).parents[2] / "docs" / "permits.md").read_text()
KEY = PermitKey(bytes(range(32)))
NUMBER = "+14155550123"
SUPPRESSION = b"s" * 32


def verify(**changed: Any) -> None:
    """Run the example on a permit that is good now, with changes of what it says."""
    now = time.time_ns() // 1_000
    terms = replace(
        TERMS,
        number_token=subject_token(SUPPRESSION, NUMBER),
        issued_at=now,
        expires_at=now + 60 * MICROSECONDS,
    )
    given = {
        "token": KEY.permit(replace(terms, **changed)),
        "key_set": {"keys": [public_jwk(KEY.public_key)]},
        "issuer": terms.issuer,
        "seller_id": terms.seller_id,
        "call_mode": terms.call_mode,
        "number": NUMBER,
        "suppression_key": SUPPRESSION,
    }
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        exec(compile(example, "docs/permits.md", "exec"), given)


def test_the_example_takes_a_good_permit() -> None:
    verify()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seller_id": "borealis"}, "another call"),
        ({"call_mode": "PRERECORDED"}, "another call"),
        ({"test": True}, "rehearsal"),
        ({"number_token": bytes(16)}, "another number"),
    ],
)
def test_the_example_refuses_any_other_call(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        verify(**changed)


def test_the_example_refuses_a_permit_that_ran_out() -> None:
    with pytest.raises(ExpiredTokenError):
        verify(expires_at=time.time_ns() // 1_000 - MICROSECONDS)


def test_every_claim_is_described() -> None:
    """The page names every claim of a permit, and no other."""
    part = KEY.permit(replace(TERMS, test=True)).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    (table,) = re.findall(r"\| claim \| meaning \|\n(.*?)\n\n", PAGE, re.DOTALL)
    named = {
        name
        for row in table.splitlines()[1:]
        for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])
    }
    assert named == set(claims)
