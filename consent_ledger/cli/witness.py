"""`consent-ledger witness`: cosign the checkpoints of other people's logs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from litestar import Litestar, Request, Response, get, post

from consent.errors import Rejected
from consent.log_policy import LogPolicy, parse_policy
from consent.notes import COSIGNATURE, SigningKey, check_name
from consent_ledger.keys import make_key, read_key
from consent_ledger.logging import configure_logging
from consent_ledger.settings import LOOPBACK, load_settings
from consent_ledger.witness import Witness

_BODY_BYTES_MAX = 64 * 1024
_UNAVAILABLE = 3


def command(
    name: Annotated[str, typer.Option(help="Name under which it signs, like an address.")],
    policy: Annotated[
        Path | None, typer.Option(help="File that names the logs: `log KEY` a line.", exists=True)
    ] = None,
    host: Annotated[str, typer.Option(help="Address that it listens on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port that it listens on.", min=1, max=65_535)] = 18484,
    folder: Annotated[
        Path | None, typer.Option(help="Its key and memory. Default: `witness` in the data folder.")
    ] = None,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print its public key and end.")
    ] = False,
) -> None:
    """Cosign checkpoints of the logs in a file until it is stopped with SIGTERM or Ctrl-C.

    Run it where the operator of the ledger has no say: it keeps of each log the newest checkpoint,
    and never signs one that does not continue it. Makes its key at the first start.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, "witness")
    check_name(name)
    place = folder or settings.data_dir / "witness"
    key_path = place / "witness.key"
    make_key(key_path)
    key = SigningKey(name, read_key("witness", key_path), COSIGNATURE)
    typer.echo(key.verifier.encoded)
    if show_key:
        return
    known = LogPolicy() if policy is None else parse_policy(policy.read_text())
    if not known.logs:
        remedy = "Give a file that names at least one log: `log KEY`."
        raise Rejected("NO_LOGS", "--policy", str(policy or "nothing"), remedy)
    server = uvicorn.Server(
        uvicorn.Config(
            witness_app(Witness(key, known, place, time.time)),
            host=host,
            port=port,
            access_log=False,
            log_config=None,
            server_header=False,
        )
    )
    server.run()
    if not server.started:
        raise typer.Exit(_UNAVAILABLE)


def witness_app(witness: Witness) -> Litestar:
    """The witness's addresses, as an ASGI application."""

    @post("/add-checkpoint", status_code=200)
    async def add_checkpoint(request: Request) -> Response[str]:  # type: ignore[type-arg]
        answer = await asyncio.to_thread(witness.add_checkpoint, await request.body())
        # Given as a header, since the framework would put a character set behind every text type.
        headers = {"content-type": answer.media_type}
        return Response(answer.body, status_code=answer.status, headers=headers)

    @get("/healthz", sync_to_thread=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return Litestar(
        [add_checkpoint, healthz],
        request_max_body_size=_BODY_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
    )
