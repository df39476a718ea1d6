"""`consent-ledger up`: run a whole ledger on this machine until it is stopped."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from consent_ledger.embedded import (
    LABELS,
    addresses,
    claimed_directory,
    embedded_settings,
    make_supervisor,
    refuse_taken_ports,
)
from consent_ledger.keys import create_missing_keys
from consent_ledger.permit_keys import create_missing_permit_key
from consent_ledger.settings import load_settings
from consent_ledger.supervisor import Supervisor
from consent_ledger.terminal import observer


def command(
    plain: Annotated[
        bool, typer.Option("--plain", help="Print plain lines, also on a terminal.")
    ] = False,
) -> None:
    """Run a whole ledger on this machine until it is stopped with Ctrl-C or SIGTERM.

    Starts a broker, ClickHouse, both workers and the HTTP API on 127.0.0.1, with all data under
    the data folder, and restarts what dies. A second start on the same folder continues with the
    same data. Nothing else has to be installed.
    """
    settings = embedded_settings(load_settings())
    with claimed_directory(settings.data_dir):
        refuse_taken_ports(settings)
        create_missing_keys(settings)
        create_missing_permit_key(settings)
        closing = "The ledger is ready. Stop it with Ctrl-C."
        shown = observer(LABELS, addresses(settings), closing, plain)
        asyncio.run(run_until_signal(make_supervisor(settings, shown)))


async def run_until_signal(supervisor: Supervisor) -> None:
    """Run until asked to stop by a signal; a second one kills what has not stopped yet.

    A closed terminal asks as well, unless `nohup` had that ignored.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, supervisor.request_stop)
    await supervisor.run()
