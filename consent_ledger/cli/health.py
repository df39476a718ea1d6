"""`consent-ledger health`: ask the process of this machine or container if it is well."""

from __future__ import annotations

import http.client
from typing import Annotated

import typer

from consent_ledger.settings import LOOPBACK, Settings, load_settings

_TIMEOUT_S = 3.0
_UNAVAILABLE = 3


def command(
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask if it can do its work now, not only if it lives.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="Ask here alone; else the ports of every process.")
    ] = None,
) -> None:
    """Ask each worker and the API of this machine or container if it is well.

    Exit code 0 if at least one answers and all that answer are well, else 3.
    """
    path = "/readyz" if ready else "/healthz"
    ports = _ports(load_settings()) if port is None else {"process": port}
    answers = {name: _status(at, path) for name, at in ports.items()}
    heard = {name: status for name, status in answers.items() if status is not None}
    for name, status in heard.items():
        typer.echo(f"{name}: {'well' if status == http.client.OK else f'HTTP {status}'}")
    if not heard:
        typer.echo("no process of the ledger answers here", err=True)
    if not heard or any(status != http.client.OK for status in heard.values()):
        raise typer.Exit(_UNAVAILABLE)


def _ports(settings: Settings) -> dict[str, int]:
    return {
        "project": settings.project_port,
        "record": settings.record_port,
        "seal": settings.seal_port,
        "serve": settings.serve_port,
    }


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException):
        return http.client.SERVICE_UNAVAILABLE
    finally:
        connection.close()
