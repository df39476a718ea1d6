"""`GET /v1/log/...`: the proof log as static files, in the form of C2SP tlog-tiles.

Checkpoint and hashes are for everybody: they name nobody, and a log that only its operator can
read proves little. Entries hold positions and tokens, so they take a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from litestar import Controller, Response, get
from litestar.params import FromPath

from consent.tiles import Tile
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.parts import ApiRequest, config_of
from consent_ledger.api.problems import Problem

_BYTES: Final = "application/octet-stream"
_TEXT: Final = "text/plain"
_NEVER_CHANGES: Final = "max-age=31536000, immutable"


class LogController(Controller):
    """The files of the proof log."""

    path = "/v1/log"
    tags = ("log",)

    @get("/checkpoint", summary="The newest checkpoint", media_type=_TEXT, sync_to_thread=True)
    def checkpoint(self, request: ApiRequest) -> Response[bytes]:
        """A signed note (C2SP tlog-checkpoint): the log's name, its size, its root, signatures."""
        headers = {"cache-control": "public, max-age=2"}
        return Response(_read(request, "checkpoint"), media_type=_TEXT, headers=headers)

    @get("/tile/{path:path}", summary="Hashes of the log", media_type=_BYTES, sync_to_thread=True)
    def tile(self, request: ApiRequest, path: FromPath[str]) -> Response[bytes]:
        """A tile, at `<level>/<number>`, the last of a level with `.p/<width>` behind it.

        Tiles never change. A partial one goes when the full one is there.
        """
        return _tile(request, f"tile{path}", "public")

    @get(
        "/tile/entries/{path:path}",
        summary="Entries of the log",
        media_type=_BYTES,
        sync_to_thread=True,
        guards=[signed_in],
    )
    def entries(self, request: ApiRequest, path: FromPath[str]) -> Response[bytes]:
        """A bundle of 256 entries, at `<number>`: each after its length as two bytes."""
        request.user.require("auditor")
        return _tile(request, f"tile/entries{path}", "private")


def _tile(request: ApiRequest, name: str, scope: str) -> Response[bytes]:
    tile = Tile.parse(name)
    if tile is None:
        raise Problem("not-found", "no tile is called so")
    headers = {"cache-control": f"{scope}, {_NEVER_CHANGES}"}
    return Response(_read(request, tile.path), media_type=_BYTES, headers=headers)


def _read(request: ApiRequest, name: str) -> bytes:
    """A file of the log; `name` is one of the log's own, never what a request said."""
    folder: Path | None = config_of(request).log_folder
    if folder is not None:
        try:
            return (folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            pass
    raise Problem("not-found", "the log has no such file")
