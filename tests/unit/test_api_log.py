"""The proof log over HTTP: the same bytes as on disk, and who may have them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from consent.blocks import CutterLimits, limits_entry
from consent.codec import encode
from consent.notes import SigningKey
from consent_ledger.api.app import create_app
from consent_ledger.api.authentication import load_api_keys
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.parts import ApiConfig, ApiParts
from consent_ledger.api_key_file import NewApiKey, add_api_key
from projections.ledger_log import LedgerLog
from projections.log_folder import LogFolder


@asynccontextmanager
async def no_parts(metrics: ApiMetrics) -> AsyncIterator[ApiParts]:
    """Never entered: the log needs none of them."""
    raise AssertionError
    yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of one entry."""
    log = LedgerLog(LogFolder(tmp_path / "log"), SigningKey("ledger.example/log", b"k" * 32))
    (tmp_path / "log").mkdir()
    log.open()
    log.take(encode("LogEntry", limits_entry(CutterLimits(), 5)))
    log.publish()
    return tmp_path / "log"


def client(config: ApiConfig, token: str | None = None) -> httpx.AsyncClient:
    """A client of an application of its own."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app=create_app(config, no_parts))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)


@pytest.mark.parametrize(
    ("path", "media_type", "caching"),
    [
        ("checkpoint", "text/plain; charset=utf-8", "public, max-age=2"),
        ("tile/0/000.p/1", "application/octet-stream", "public, max-age=31536000, immutable"),
        (
            "tile/entries/000.p/1",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
    ],
)
async def test_files_are_served_as_they_are(
    folder: Path, path: str, media_type: str, caching: str
) -> None:
    """With the media type of the specification, and for as long as they stay the same."""
    async with client(ApiConfig(log_folder=folder)) as http:
        answer = await http.get(f"/v1/log/{path}")
    assert answer.status_code == 200
    assert answer.content == (folder / path).read_bytes()
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == caching


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/001",
        "tile/0/000",
        "tile/entries/000",
        "tile/0/0",
        "tile/index.sqlite",
        "tile/0/..%2f..%2findex.sqlite",
        "tile/entries/..%2f..%2fcheckpoint",
        "index.sqlite",
    ],
)
async def test_nothing_else_is_served(folder: Path, path: str) -> None:
    """Neither what is not there nor what is no file of the log."""
    async with client(ApiConfig(log_folder=folder)) as http:
        answer = await http.get(f"/v1/log/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


async def test_a_ledger_without_a_log(tmp_path: Path) -> None:
    """Before the first checkpoint, and where no folder is set."""
    for folder in (None, tmp_path / "nothing"):
        async with client(ApiConfig(log_folder=folder)) as http:
            assert (await http.get("/v1/log/checkpoint")).status_code == 404


async def test_entries_take_a_key(folder: Path, tmp_path: Path) -> None:
    """Checkpoint and hashes are for everybody, entries for auditors."""
    file = tmp_path / "keys.yaml"
    tokens = {}
    for name, role in (("a", "auditor"), ("d", "dialer")):
        add_api_key(file, tmp_path / f"{name}.key", NewApiKey(name, (role,)))
        tokens[role] = (tmp_path / f"{name}.key").read_text().strip()
    config = ApiConfig(keys=load_api_keys(file), log_folder=folder)
    for token, status in ((None, 401), (tokens["dialer"], 403), (tokens["auditor"], 200)):
        async with client(config, token) as http:
            assert (await http.get("/v1/log/checkpoint")).status_code == 200
            assert (await http.get("/v1/log/tile/0/000.p/1")).status_code == 200
            entries = await http.get("/v1/log/tile/entries/000.p/1")
            assert entries.status_code == status
