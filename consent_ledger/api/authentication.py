"""Who may do what over HTTP: API keys from a file, roles, and keys bound to sellers.

Keys are 256 random bits, so the file holds plain SHA-256 digests of them: there is nothing to
guess. Without a file there is no authentication, and then only on a loopback address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from consent.contracts import RecordContract
from consent.documents import Fields
from consent.errors import Rejected
from consent.instants import parse_instant
from consent_ledger.api.problems import Problem

Connection = ASGIConnection[Any, Any, Any, Any]
Role = Literal["publisher", "dialer", "auditor", "privacy", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
KEY_PREFIX: Final = "cl_"
_KEY_BYTES: Final = 32

_TOPICS_OF: Final[Mapping[Role, frozenset[str]]] = {
    "publisher": frozenset({"consent-events", "dnc-updates", "call-events", "program-events"}),
    "dialer": frozenset({"call-events"}),
    "auditor": frozenset(),
    "privacy": frozenset({"privacy-requests"}),
    "admin": frozenset(
        {
            "consent-events",
            "dnc-updates",
            "call-events",
            "program-events",
            "privacy-requests",
            "registry-versions",
            "calendar-events",
        }
    ),
}
_PUBLISHER_ALSO: Final = frozenset(
    {"ErasureRequested", "AccessRequested", "RectificationRequested"}
)
_ADMIN_ONLY: Final = frozenset({"RulebookActivated"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sent a request. `seller_ids` None: any seller. `name` stands in logs, not the key."""

    name: str
    roles: frozenset[Role]
    seller_ids: frozenset[str] | None = None

    def require(self, *roles: Role) -> None:
        """Problem `forbidden` unless one of these roles, or admin, is held."""
        if not self.roles.intersection(roles) and "admin" not in self.roles:
            raise Problem("forbidden", f"it takes the role {' or '.join(roles)}")

    def may_publish(self, record: RecordContract, fields: Fields) -> None:
        """Rejected unless this key may publish such an event on behalf of its seller."""
        name = record.name
        allowed = "admin" in self.roles if name in _ADMIN_ONLY else self._publishes(record)
        if not allowed:
            remedy = "use a key whose role publishes this kind of event"
            raise Rejected("ROLE_NOT_ALLOWED", "type", name, remedy)
        self.for_seller(fields["seller_id"])
        everyone = any(fields.get(flag) for flag in ("all_sellers", "opt_out_all_sellers"))
        if everyone and record.effect == "permits" and self.seller_ids is not None:
            remedy = "this key is bound to a seller; it can't permit calls for all of them"
            raise Rejected("SELLER_NOT_ALLOWED", "all_sellers", "true", remedy)

    def for_seller(self, seller_id: str) -> None:
        """Rejected unless this key may act for the seller."""
        if self.seller_ids is not None and seller_id not in self.seller_ids:
            remedy = f"this key is bound to {', '.join(sorted(self.seller_ids))}"
            raise Rejected("SELLER_NOT_ALLOWED", "seller_id", seller_id[:60], remedy)

    def _publishes(self, record: RecordContract) -> bool:
        if any(record.topic in _TOPICS_OF[role] for role in self.roles):
            return True
        return "publisher" in self.roles and record.name in _PUBLISHER_ALSO


LOCAL_PRINCIPAL: Final = Principal("local", frozenset({"admin"}))
"""Everybody, where there is no authentication."""


class KeyEntry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One key in the file. `expires_at` is RFC 3339; after it the key is unknown."""

    name: str
    sha256: str
    roles: list[Role]
    seller_ids: list[str] | None = None
    expires_at: str | None = None


class KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file: `keys`, each with a name of its own."""

    keys: list[KeyEntry]


@dataclass(frozen=True, slots=True)
class _KnownKey:
    principal: Principal
    expires_at: int | None


class ApiKeys:
    """The keys that are accepted. Reads the file once; a changed file needs a restart."""

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self._known: dict[bytes, _KnownKey] = {}
        for entry in entries:
            digest = bytes.fromhex(entry.sha256)
            sellers = None if entry.seller_ids is None else frozenset(entry.seller_ids)
            principal = Principal(entry.name, frozenset(entry.roles), sellers)
            expires_at = None if entry.expires_at is None else parse_instant(entry.expires_at)
            self._known[digest] = _KnownKey(principal, expires_at)

    def principal_of(self, token: str, now: int) -> Principal | None:
        """Who holds this key, None if it is unknown or ran out; `now` in µs."""
        known = self._known.get(digest_of(token))
        if known is None or (known.expires_at is not None and known.expires_at <= now):
            return None
        return known.principal


def load_api_keys(path: Path) -> ApiKeys:
    """Keys from a YAML or JSON file; Rejected, naming the file, if it can't be used."""
    try:
        content = YAML(typ="safe").load(path.read_text())
        keys = msgspec.convert(content, KeyFile).keys
        for entry in keys:
            if len(bytes.fromhex(entry.sha256)) != 32 or not entry.roles:
                raise ValueError(f"key {entry.name}: give a SHA-256 digest and at least one role")
        if len({entry.name for entry in keys}) != len(keys):
            raise ValueError("two keys have the same name")
        return ApiKeys(keys)
    except (OSError, ValueError, YAMLError, msgspec.ValidationError) as problem:
        remedy = f"see docs/http.md for its form ({problem})"
        raise Rejected("INVALID_KEY_FILE", "api_keys_file", str(path), remedy) from problem


def new_key(name: str, roles: Iterable[Role], seller_ids: list[str] | None) -> tuple[str, KeyEntry]:
    """A new key, to be shown once, and the entry for the file."""
    token = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return token, KeyEntry(name, digest_of(token).hex(), list(roles), seller_ids)


def digest_of(token: str) -> bytes:
    """What the file holds of a key."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


@lru_cache(maxsize=1_024)
def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authenticate(connection: Connection) -> Principal:
    """Who sent this request; Problem `unauthenticated` if no valid key came with it."""
    return principal_from(
        connection.app.state.api_keys,
        None if connection.client is None else connection.client.host,
        connection.url.hostname or "",
        connection.headers.get("authorization", ""),
    )


def principal_from(
    keys: ApiKeys | None, client: str | None, asked_for: str, authorization: str
) -> Principal:
    """Who sent a request from address `client` to host name `asked_for`; or Problem.

    Without keys everybody is `local`, but only from this machine and under its own name: a page
    in a browser whose host name was pointed here must not reach the ledger.
    """
    if keys is None:
        if client is None or not is_loopback(client) or not is_loopback(asked_for):
            raise Problem("unauthenticated", "there are no keys: only this machine may ask")
        return LOCAL_PRINCIPAL
    scheme, _, token = authorization.partition(" ")
    principal = None
    if scheme.lower() == "bearer" and token:
        principal = keys.principal_of(token.strip(), time.time_ns() // 1000)
    if principal is None:
        raise Problem("unauthenticated")
    return principal


async def signed_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard of every address that needs a key; the principal is then `request.user`."""
    principal = authenticate(connection)
    connection.app.state.rates.take(principal.name)
    connection.scope["user"] = principal
