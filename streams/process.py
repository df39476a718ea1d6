"""How a worker process ends when it must not end well."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

EXIT_STOPPED = 0
EXIT_UNAVAILABLE = 3
EXIT_FAILED = 70


def exit_without_commit(
    event: str, error: BaseException | None = None, **fields: object
) -> NoReturn:
    """Ends the process at once with `EXIT_FAILED`; nothing unacknowledged is committed.

    For states that running on would make worse. What was not acknowledged is read again by the
    next owner of the partition.
    """
    log.critical(event, exc_info=error, **fields)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAILED)
