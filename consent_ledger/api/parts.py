"""What the HTTP API is made of and told: its configuration, and the parts behind its doors."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import SerializationException

from consent_ledger.api.acceptance import EventAcceptor
from consent_ledger.api.accesses import AccessRecorder
from consent_ledger.api.authentication import ApiKeys, Principal
from consent_ledger.api.checking import CallChecker
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.models import Wait
from consent_ledger.api.privacy_office import PrivacyOffice
from consent_ledger.api.problems import FieldError, Problem
from consent_ledger.api.reconstructions import Reconstructions
from consent_ledger.api.scrubbing import Scrubber
from consent_ledger.api.timeline import TimelineReader
from consent_ledger.evidence_signing import EvidenceSigning
from consent_ledger.permit_issuing import PermitIssuer
from projections.clickhouse_async import AsyncStore


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Limits of the API. `keys` None: no authentication, and only from this machine.

    `answer_after` is what `POST /v1/events` waits for at the least: where the broker forgets when
    it stops, `recorded`. `log_folder` holds the proof log; without `evidence` no bundles are made.
    """

    keys: ApiKeys | None = None
    answer_after: Wait | None = None
    log_folder: Path | None = None
    evidence: EvidenceSigning | None = None
    version: str = "0"
    body_bytes_max: int = 1_048_576
    events_per_request_max: int = 1_000
    checks_per_request_max: int = 1_000
    requests_in_flight_max: int = 512
    requests_per_second_max: int = 5_000
    request_timeout_ms: int = 30_000
    stream_timeout_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The working parts, started.

    `unready` names what is not, empty if all is well. `region_default` is the country of numbers
    written without one.
    """

    acceptor: EventAcceptor
    checker: CallChecker
    timelines: TimelineReader
    permits: PermitIssuer
    scrubber: Scrubber
    accesses: AccessRecorder
    store: AsyncStore
    reconstructions: Reconstructions
    privacy: PrivacyOffice
    unready: Callable[[], list[str]]
    region_default: str | None = None


OpenParts = Callable[[ApiMetrics], AbstractAsyncContextManager[ApiParts]]


class RateLimiter:
    """A token bucket per key: `per_second` on average, one second's worth at once."""

    def __init__(self, per_second: int, names_max: int = 10_000) -> None:
        self._per_second = per_second
        self._names_max = names_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Problem `too-many-requests` if this key has used up its share."""
        now = time.monotonic()
        tokens, at = self._buckets.get(name, (float(self._per_second), now))
        tokens = min(float(self._per_second), tokens + (now - at) * self._per_second)
        if tokens < 1:
            raise Problem("too-many-requests", retry_after_s=1)
        self._buckets[name] = (tokens - 1, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)


class ApiRequest(Request[Principal, Any, State]):
    """A request whose body, if it can't be read, is a problem like any other."""

    async def json(self) -> Any:
        """The body, decoded; Problem `invalid-request` if it is no JSON."""
        try:
            if not await self.body():
                raise Problem("invalid-request", "send a body")
            return await super().json()
        except (SerializationException, UnicodeDecodeError, RecursionError) as unreadable:
            error = FieldError("INVALID_JSON", "", "", f"send JSON ({unreadable})"[:200])
            raise Problem("invalid-request", errors=[error]) from None


def parts_of(request: ApiRequest) -> ApiParts:
    """The parts of the app that a request came to."""
    parts: ApiParts = request.app.state.parts
    return parts


def config_of(request: ApiRequest) -> ApiConfig:
    """The configuration of the app that a request came to."""
    config: ApiConfig = request.app.state.config
    return config
