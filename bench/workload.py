"""The records of a measurement: encoded events of consent-events, made fast and with a seed."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from consent.codec import encode
from consent.contracts import contracts

NUMBERS = 1_000_000
_NUMBER = "+15550000000"
_EVENT_ID = "00000000-0000-4000-8000-000000000000"
_SALT = b"\xa5SALTSALTSALT\x5a\xa5\x5a"
_AT = 1_790_000_000_000_000

Keys = Literal["uniform", "zipf"]


@dataclass(frozen=True, slots=True)
class _Template:
    value: bytes
    event_id_at: int
    occurred_at_at: int
    number_at: int
    salt_at: int


def records(count: int, keys: Keys, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of `count` events: grants with and without evidence, withdrawals, purchases.

    Keys are uniform over a million numbers, or follow Zipf's law over them (exponent 1.2).
    """
    generator = np.random.default_rng(seed)
    chooser = random.Random(seed)
    if keys == "uniform":
        numbers = generator.integers(0, NUMBERS, count)
    else:
        numbers = (generator.zipf(1.2, count) * 7_919) % NUMBERS
    templates = _templates()
    start = int(time.time() * 1_000_000) - count
    for position, number in enumerate(numbers.tolist()):
        template = chooser.choices(templates, weights=(50, 10, 25, 15))[0]
        key = b"+1555%07d" % number
        yield key, _filled(template, key, start + position, chooser)


def withdrawal(key: bytes, seed: int) -> bytes:
    """Value of a withdrawal for one number, dated now."""
    template = _templates()[2]
    return _filled(template, key, int(time.time() * 1_000_000), random.Random(seed))


def _filled(template: _Template, key: bytes, occurred_at: int, chooser: random.Random) -> bytes:
    value = bytearray(template.value)
    event_id = str(uuid.UUID(int=chooser.getrandbits(128), version=4)).encode()
    value[template.event_id_at : template.event_id_at + 36] = event_id
    value[template.occurred_at_at : template.occurred_at_at + 8] = _long(occurred_at)
    value[template.number_at : template.number_at + 12] = key
    value[template.salt_at : template.salt_at + 16] = chooser.randbytes(16)
    return bytes(value)


def _templates() -> list[_Template]:
    grant: dict[str, Any] = {
        "consent_kind": "PEWC",
        "change": "GIVEN",
        "purposes": ["MARKETING"],
        "modes": ["LIVE"],
        "seller_named": True,
        "number_named": True,
    }
    evidence = {
        "name": "Pat Example",
        "ip": "192.0.2.7",
        "page_url": "https://shop.example/offer",
        "wording": "I agree to be called about offers of Example Ltd by an autodialer.",
        "signature_method": "CHECKBOX",
    }
    return [
        _template("ConsentGranted", grant, None),
        _template("ConsentGranted", grant, evidence),
        _template("ConsentWithdrawn", {"purposes": ["MARKETING"], "manner": "KEYWORD"}, None),
        _template(
            "RelationshipRecorded",
            {"relationship_kind": "PURCHASE", "on": 20_700, "status": "ACTIVE"},
            None,
        ),
    ]


def _template(name: str, own: dict[str, Any], evidence: dict[str, Any] | None) -> _Template:
    given = {
        "event_id": _EVENT_ID,
        "occurred_at": _AT,
        "seller_id": "example-ltd",
        "source": {"system": "crm", "channel": "WEB", "actor": "CONSUMER"},
        "number": _NUMBER,
        "salt": _SALT,
        **own,
    }
    fields = {}
    for field in contracts().record(name).parsed["fields"]:
        fields[field["name"]] = given.get(field["name"], field.get("default"))
        if field["name"] == "evidence" and evidence is not None:
            inner = field["type"][1]["fields"]
            fields["evidence"] = {
                each["name"]: evidence.get(each["name"], each["default"]) for each in inner
            }
    value = encode(name, fields)
    return _Template(
        value,
        value.index(_EVENT_ID.encode()),
        value.index(_long(_AT)),
        value.index(_NUMBER.encode()),
        value.index(_SALT),
    )


def _long(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
