"""The parts of a bundle that people and other programs read: the page, and the receipts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from consent_ledger.verify_bundle import Files
from tests.evidence_world import ANNA, FORM, opened, told_world
from tests.stores import RunningFront


@pytest.fixture(scope="module")
def files(clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What is in the bundle about November, with a copy of the form attached."""
    folder = tmp_path_factory.mktemp("evidence-page")
    with told_world(clickhouse_front.url, "test_evidence_page", folder) as told:
        return opened(told.bundle(copies=[FORM]).data)


def test_receipts(files: Files) -> None:
    """One of each form for the grant, with the names that the standards have."""
    (kantara,) = [json.loads(data) for name, data in files.items() if ".kantara." in name]
    jsonschema.validate(kantara, KANTARA)
    assert kantara["version"] == "KI-CR-v1.1.0"
    assert kantara["consentTimestamp"] == 1_790_087_400
    assert kantara["piiControllers"][0]["piiController"] == "Acme Insurance Ltd"
    assert ANNA not in json.dumps(kantara)
    (record,) = [json.loads(data) for name, data in files.items() if name.endswith(".jsonld")]
    assert record["@type"] == "dpv:ConsentRecord"
    assert record["dct:conformsTo"] == "https://w3id.org/dpv/schema/iso-27560"
    assert [one["@type"] for one in record["dpv:hasConsentStatus"]] == [
        "dpv:ConsentGiven",
        "dpv:ConsentWithdrawn",
    ]
    assert record["dpv:hasNotice"][0]["@type"] == "dpv:ConsentNotice"
    needed = ("dct:identifier", "dpv:hasDataSubject", "dpv:hasDataController", "dpv:hasProcess")
    assert set(needed) <= set(record)


class _Page(HTMLParser):
    """Collects the tags and attributes of a page, and whether they are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(files: Files) -> None:
    """No scripts, nothing from elsewhere; what was published is text; it is well formed."""
    text = files["story.html"].decode()
    page = _Page()
    page.feed(text)
    assert not page.open
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "b0"}
    attributes = {attribute for _, given in page.tags for attribute in given}
    assert attributes <= {"class", "id", "href", "lang", "charset", "content", "name", "scope"} | {
        "http-equiv"
    }
    assert all(
        given["href"] and given["href"][0] == "#" for _, given in page.tags if "href" in given
    )
    assert not re.search(r"@import|url\(", text)
    assert "Anna &lt;b&gt;Example&lt;/b&gt;" in text
    assert "does not prove completeness" in text
    assert "47 CFR 64.1200" in text
    for mode in ("prefers-color-scheme: dark", "@media print"):
        assert mode in text


@pytest.mark.browser
def test_the_page_prints(files: Files, tmp_path: Path) -> None:
    """A browser makes a document of several pages of it."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no Chromium")
    (tmp_path / "story.html").write_bytes(files["story.html"])
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-sync"
    given = f"--headless --no-sandbox --disable-gpu --disable-component-update {quiet}".split()
    printed = tmp_path / "story.pdf"
    folders = (f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}")
    subprocess.run([browser, *given, *folders, (tmp_path / "story.html").as_uri()], check=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    assert 3 <= pages <= 30


_TEXT = {"type": "string", "minLength": 1}
KANTARA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "version": _TEXT,
        "jurisdiction": _TEXT,
        "consentTimestamp": {"type": "integer", "minimum": 0},
        "collectionMethod": _TEXT,
        "consentReceiptID": _TEXT,
        "publicKey": _TEXT,
        "language": _TEXT,
        "piiPrincipalId": _TEXT,
        "policyUrl": _TEXT,
        "sensitive": {"type": "boolean"},
        "spiCat": {"type": "array", "items": _TEXT},
        "piiControllers": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **dict.fromkeys(("piiController", "contact", "email", "phone"), _TEXT),
                    "piiControllerUrl": _TEXT,
                    "onBehalf": {"type": "boolean"},
                    "address": {"type": "object"},
                },
                "required": ["piiController", "contact", "address", "email", "phone"],
            },
        },
        "services": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "service": _TEXT,
                    "purposes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": [
                                "purpose",
                                "purposeCategory",
                                "consentType",
                                "piiCategory",
                                "primaryPurpose",
                                "termination",
                                "thirdPartyDisclosure",
                            ],
                        },
                    },
                },
                "required": ["service", "purposes"],
            },
        },
    },
    "required": [
        *("version", "jurisdiction", "consentTimestamp", "collectionMethod", "consentReceiptID"),
        *("piiPrincipalId", "piiControllers", "services", "policyUrl", "sensitive", "spiCat"),
    ],
}
"""What Kantara's specification asks of a receipt, in its own names."""
