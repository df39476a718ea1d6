"""The HTTP API as an ASGI application.

Puts the doors together; holds no logic of its own. Opening the parts behind the doors is the
caller's, so that this can be tested with any of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from consent_ledger.api.audit import AuditController
from consent_ledger.api.calls import CallsController
from consent_ledger.api.events import EventsController
from consent_ledger.api.evidence import EvidenceController
from consent_ledger.api.limits import RequestLimits
from consent_ledger.api.log import LogController
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.openapi_page import PlainRenderPlugin
from consent_ledger.api.operations import healthz, metrics, problem, readyz
from consent_ledger.api.parts import ApiConfig, ApiRequest, OpenParts, RateLimiter
from consent_ledger.api.permits import key_set
from consent_ledger.api.privacy import PrivacyController
from consent_ledger.api.problems import EXCEPTION_HANDLERS
from consent_ledger.api.prompt_checks import PromptChecks
from consent_ledger.api.reconstructing import ReconstructController
from consent_ledger.api.reports import ReportsController
from consent_ledger.api.scrub import ScrubController

log = structlog.get_logger(__name__)


def create_app(config: ApiConfig, open_parts: OpenParts) -> RequestLimits:
    """The application. Its lifespan opens the parts, and closes them after the last request."""
    measured = ApiMetrics()

    @asynccontextmanager
    async def parts_open(app: Litestar) -> AsyncIterator[None]:
        if config.keys is None:
            log.warning("http_without_authentication", only_from="this machine")
        async with open_parts(measured) as parts:
            app.state.parts = parts
            yield

    state = State(
        {
            "config": config,
            "api_keys": config.keys,
            "metrics": measured,
            "rates": RateLimiter(config.requests_per_second_max),
        }
    )
    app = Litestar(
        route_handlers=[
            EventsController,
            CallsController,
            ScrubController,
            AuditController,
            ReportsController,
            PrivacyController,
            ReconstructController,
            EvidenceController,
            LogController,
            healthz,
            readyz,
            metrics,
            problem,
            key_set,
        ],
        lifespan=[parts_open],
        state=state,
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=_openapi(config),
        request_class=ApiRequest,
        request_max_body_size=config.body_bytes_max,
        logging_config=None,
        debug=False,
    )
    return RequestLimits(PromptChecks(app), config, measured)


def _openapi(config: ApiConfig) -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="A key of this ledger.")
    return OpenAPIConfig(
        title="consent-ledger",
        version=config.version,
        description="Prove, for every outbound call, that it was allowed at the second it was "
        "dialled. Numbers stand in bodies only, never in an address.",
        path="/docs",
        use_handler_docstrings=True,
        components=Components(security_schemes={"key": scheme}),
        security=[{"key": []}],
        render_plugins=[PlainRenderPlugin(), JsonRenderPlugin(), YamlRenderPlugin()],
    )
