"""Log lines of our processes: one event per line, machine-readable, without personal data.

Everything that any library logs goes through the same chain, which masks what looks like a number
or an e-mail address; no line is trusted to have left them out.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_PERSONAL: Final = re.compile(r"\+\d[\d ().-]{5,18}\d|[\w.%+-]+@[\w-]+(\.[\w-]+)+")
_MASK: Final = "[masked]"
# Libraries that tell of every request, fetch or retry; what comes of it is told by whoever asked.
_QUIET: Final = {
    "aiokafka": logging.WARNING,
    "asyncio": logging.WARNING,
    "clickhouse_connect": logging.ERROR,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "kafka": logging.CRITICAL,
    "urllib3": logging.ERROR,
}
_SERVICE_CHATTER: Final = "[^"

EventDict = MutableMapping[str, Any]


def configure_logging(level: str, form: str, process: str) -> None:
    """Send structlog and the standard library's loggers to the error stream.

    `level` is a name such as `info`; `form` is `json` or `console`; `process` names this process
    in each line. Called once, before anything is logged.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _named(process),
        mask_personal_data,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_worth_a_line)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Leaves out what the stream library's services say of themselves when they start or stop."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith(_SERVICE_CHATTER)


def mask_personal_data(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace what looks like a telephone number or an e-mail address in every value."""
    return {key: _masked(value) for key, value in event.items()}


def _named(process: str) -> Any:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("process", process)
        event.pop("color_message", None)
        return event

    return add


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _PERSONAL.sub(_MASK, value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(inner) for inner in value]
    return value
