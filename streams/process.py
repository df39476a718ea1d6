"""How a worker process ends when it must not end well, and what it says then."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import NoReturn

import structlog
from aiokafka.errors import KafkaError

from consent.errors import ConsentError

log = structlog.get_logger(__name__)

EXIT_STOPPED = 0
EXIT_UNAVAILABLE = 3
EXIT_FAILED = 70


def describe(error: BaseException) -> dict[str, object]:
    """Fields for a log line: the type, where it was raised, and the message if it is safe.

    The text of an error that a handler let pass may quote the record it failed on, so only our
    own errors and the broker client's are quoted.
    """
    fields: dict[str, object] = {
        "error": type(error).__qualname__,
        "raised_at": [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    }
    if isinstance(error, ConsentError | KafkaError):
        fields["detail"] = str(error)
    if error.__cause__ is not None:
        fields["cause"] = type(error.__cause__).__qualname__
    return fields


def exit_without_commit(
    event: str, error: BaseException | None = None, **fields: object
) -> NoReturn:
    """Ends the process at once with `EXIT_FAILED`; nothing unacknowledged is committed.

    For states that running on would make worse. What was not acknowledged is read again by the
    next owner of the partition.
    """
    try:
        log.critical(event, **fields, **(describe(error) if error is not None else {}))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(EXIT_FAILED)
