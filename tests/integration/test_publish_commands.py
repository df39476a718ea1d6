"""`publish`, `check` and `timeline` against a running `serve`, as a person uses them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consent_ledger.api.authentication import new_key
from tests.api import ago, event, fresh_number, grant
from tests.brokers import embedded_broker, wait_until
from tests.ledger import Ledger, command, running_ledger
from tests.stores import RunningFront

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]

MAPPING = """
version: 1
region_default: US
fields:
  number: {column: phone}
  seller_id: acme
  source.system: old-crm
records:
- type: ConsentWithdrawn
  fields:
    event_id: {uuid5: [id]}
    occurred_at: {column: at, format: "%d.%m.%Y %H:%M", zone: America/New_York}
    manner: {column: how, values: {web: WEB_FORM, mail: LETTER}}
"""


@pytest.fixture(scope="module")
def ledger(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """Both workers and `serve`."""
    folder = tmp_path_factory.mktemp("commands")
    with (
        embedded_broker() as broker,
        running_ledger(
            broker,
            clickhouse_front.url,
            folder,
            processes=("project", "record", "serve"),
            view_max_age_ms="20000",
            clock_skew_max_ms="5000",
        ) as running,
    ):
        yield running


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, documents: list[Any]) -> Path:
    """A JSON lines file."""
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `--json` printed."""
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_publish_json_lines(ledger: Ledger, tmp_path: Path) -> None:
    """Each event of a file gets a result; a bad one is kept with its row and the exit code is 1."""
    number = fresh_number()
    good = [event("ConsentRefused", number) for _ in range(5)]
    bad = {**grant(number), "purpsoes": []}
    file = write_lines(tmp_path / "events.jsonl", [*good, bad])
    with file.open("a") as out:
        out.write("{\n")
    results, rejects = tmp_path / "results", tmp_path / "rejects"
    done = ledger.run(
        "publish", str(file), "--results", str(results), "--rejects", str(rejects), "--json"
    )
    assert done.returncode == 1, done.stderr
    counts = summary(done)
    assert (counts["accepted"], counts["rejected"], counts["rows"]) == (5, 2, 7)
    assert counts["reasons"] == {"UNKNOWN_FIELD": 1, "INVALID_ROW": 1}
    by_id = {line["event_id"]: line for line in lines(results) if "topic" in line}
    assert set(by_id) == {document["event_id"] for document in good}
    assert {line["status"] for line in by_id.values()} == {"accepted"}
    kept = {line["line"]: line for line in lines(rejects)}
    assert set(kept) == {6, 7}
    assert kept[6]["row"] == bad
    assert (kept[6]["field"], kept[6]["reason"]) == ("purpsoes", "UNKNOWN_FIELD")
    assert kept[7]["row"] == "{"
    assert rejects.stat().st_mode & 0o077 == 0
    assert number[2:] not in done.stdout + done.stderr


def test_publish_goes_on_where_it_ended(ledger: Ledger, tmp_path: Path) -> None:
    """A second run with the same results file sends only what is not in it."""
    documents = [event("ConsentRefused", fresh_number()) for _ in range(30)]
    file = write_lines(tmp_path / "events.jsonl", documents)
    results = tmp_path / "results"
    arguments = ("publish", str(file), "--results", str(results), "--batch", "10", "--json")
    assert summary(ledger.run(*arguments))["accepted"] == 30
    kept = results.read_text().splitlines(keepends=True)
    results.write_text("".join(kept[:12]) + kept[12][:20])
    again = summary(ledger.run(*arguments))
    assert (again["skipped"], again["accepted"], again["duplicate"]) == (12, 0, 18)
    everything = summary(ledger.run("publish", str(file), "--json"))
    assert (everything["skipped"], everything["duplicate"]) == (0, 30)


def test_publish_csv_by_a_mapping(ledger: Ledger, tmp_path: Path) -> None:
    """Rows become events by the mapping; sent again they are the same events."""
    numbers = [fresh_number() for _ in range(3)]
    rows = ["id,phone,at,how"]
    rows += [f"{n},({t[2:5]}) {t[5:8]}-{t[8:]},21.11.2026 10:30,web" for n, t in enumerate(numbers)]
    rows += ["8,12,21.11.2026 10:30,web", f"9,{numbers[0]},yesterday,web", "10,x,,fax"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    file, mapping, rejects = (str(tmp_path / name) for name in ("rows.csv", "mapping.yaml", "bad"))
    arguments = ("publish", file, "--mapping", mapping, "--wait", "projected", "--json")
    first = ledger.run(*arguments, "--rejects", rejects)
    assert first.returncode == 1, first.stderr
    assert (summary(first)["accepted"], summary(first)["rejected"]) == (3, 3)
    kept = lines(Path(rejects))
    reasons = {line["row"]["id"]: line["reason"] for line in kept}
    assert reasons == {"8": "NUMBER_INVALID", "9": "INVALID_TIME", "10": "UNMAPPED_VALUE"}
    assert summary(ledger.run(*arguments))["duplicate"] == 3
    for number in numbers:
        assert ledger.run("check", number, "--seller", "acme").returncode == 1


def test_publish_to_the_log_itself(ledger: Ledger, tmp_path: Path) -> None:
    """With --kafka the same documents get the same treatment, without `serve`."""
    number = fresh_number()
    documents = [event("ConsentWithdrawn", number), {**grant(number), "purpsoes": []}]
    file = write_lines(tmp_path / "events.jsonl", documents)
    results = tmp_path / "results"
    done = ledger.run("publish", str(file), "--kafka", "--results", str(results), "--json")
    assert done.returncode == 1, done.stderr
    assert (summary(done)["accepted"], summary(done)["rejected"]) == (1, 1)
    assert [line["status"] for line in lines(results)] == ["accepted", "rejected"]
    wait_until(
        lambda: ledger.run("check", number, "--seller", "acme").returncode == 1, 60, "a denial"
    )


def test_publish_from_standard_input(ledger: Ledger) -> None:
    """- reads JSON lines from standard input."""
    line = json.dumps(event("ConsentRefused", fresh_number())) + "\n"
    done = ledger.run("publish", "-", "--json", stdin=line)
    assert (done.returncode, summary(done)["accepted"]) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-file.jsonl",), "no-such-file.jsonl"),
        (("rows.csv",), "--mapping"),
        (("events.jsonl", "--mapping", "broken.yaml"), "broken.yaml"),
        (("events.jsonl", "--kafka", "--wait", "projected"), "--kafka"),
        (("events.jsonl", "--wait", "never"), "--wait"),
        (("events.jsonl", "--to", "ledger:1"), "--to"),
        (("rows.csv", "--mapping", "mapping.yaml"), "phone"),
    ],
)
def test_wrong_usage_sends_nothing(
    ledger: Ledger, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """A wrong file, option or mapping ends with exit code 2 and a line that says which."""
    write_lines(tmp_path / "events.jsonl", [event("ConsentRefused", fresh_number())])
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.yaml").write_text("records: [")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    names = {path.name for path in tmp_path.iterdir()}
    given = [str(tmp_path / part) if part in names else part for part in arguments]
    done = ledger.run("publish", *given)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_absent_ledger_is_exit_code_3(ledger: Ledger, tmp_path: Path) -> None:
    """Without an answer publish gives up after the time set, with exit code 3."""
    file = write_lines(tmp_path / "e.jsonl", [event("ConsentRefused", fresh_number())])
    done = ledger.run("publish", str(file), "--to", "http://127.0.0.1:9", "--retry-s", "0")
    assert done.returncode == 3
    assert "again" in done.stderr
    for name in ("check", "timeline"):
        arguments = ("--seller", "acme") if name == "check" else ()
        done = ledger.run(name, fresh_number(), *arguments, "--to", "http://127.0.0.1:9")
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr


def test_publish_waits_for_a_ledger_that_comes_back(ledger: Ledger, tmp_path: Path) -> None:
    """While `serve` is away publish tries again; nothing is lost or counted twice."""
    documents = [event("ConsentRefused", fresh_number()) for _ in range(400)]
    file = write_lines(tmp_path / "events.jsonl", documents)
    results = tmp_path / "results"
    ledger.stop("serve", kill=True)
    running = subprocess.Popen(
        command("publish", str(file), "--results", str(results), "--batch", "50", "--json"),
        env=dict(ledger.environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    ledger.start("serve", "serve")
    out, _ = running.communicate(timeout=120)
    counts = json.loads(out)
    assert running.returncode == 0
    assert counts["accepted"] + counts["duplicate"] == 400
    assert {line["event_id"] for line in lines(results)} == {one["event_id"] for one in documents}


def test_check_says_yes_no_or_unknown(ledger: Ledger, tmp_path: Path) -> None:
    """Exit code and words tell the verdict; the number may come by standard input."""
    number = fresh_number()
    options = ("--seller", "acme", "--purpose", "informational")
    options += ("--mode", "prerecorded", "--dial", "predictive")
    denied = ledger.run("check", number, *options)
    assert denied.returncode == 1
    assert "DENY" in denied.stdout
    assert "CONSENT_PEC_MISSING" in denied.stdout
    file = write_lines(tmp_path / "grant.jsonl", [grant(number)])
    assert ledger.run("publish", str(file), "--wait", "projected").returncode == 0
    allowed = ledger.run("check", "-", *options, "--json", stdin=number + "\n")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert json.loads(allowed.stdout)["verdict"] == "allow"
    explained = ledger.run("check", number, *options, "--explain")
    assert "US-FED-PEC" in explained.stdout
    assert "64.1200" in explained.stdout.replace("\n", "")
    wrong = ledger.run("check", number, "--seller", "acme", "--purpose", "sales")
    assert wrong.returncode in (1, 2)
    assert "purpose" in wrong.stderr


def test_timeline_tells_the_story(ledger: Ledger, tmp_path: Path) -> None:
    """The table is in plain words and in the zone asked for; --json has one line per entry."""
    number = fresh_number()
    documents = [
        grant(number, occurred_at="2026-11-20T15:00:00Z"),
        event("ConsentWithdrawn", number, occurred_at=ago(minutes=1)),
    ]
    file = write_lines(tmp_path / "events.jsonl", documents)
    assert ledger.run("publish", str(file), "--wait", "recorded").returncode == 0
    environment = {**ledger.environment, "COLUMNS": "200"}
    told = subprocess.run(
        command("timeline", number, "--zone", "America/New_York"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "2026-11-20 10:00:00" in told.stdout
    assert "Gave prior express written consent" in told.stdout
    assert "Took back consent" in told.stdout
    entries = [
        json.loads(line) for line in ledger.run("timeline", number, "--json").stdout.splitlines()
    ]
    assert [entry["type"] for entry in entries] == ["ConsentGranted", "ConsentWithdrawn"]
    nothing = ledger.run("timeline", fresh_number())
    assert (nothing.returncode, "Nothing" in nothing.stdout) == (0, True)
    wrong = ledger.run("timeline", number, "--zone", "America/New_Yorc")
    assert wrong.returncode == 2
    assert "America/New_York" in wrong.stderr


def test_progress_is_shown_on_a_terminal_only(ledger: Ledger, tmp_path: Path) -> None:
    """On a terminal a bar moves; in a pipe there is nothing of it."""
    documents = [event("ConsentRefused", fresh_number()) for _ in range(200)]
    file = write_lines(tmp_path / "events.jsonl", documents)
    piped = ledger.run("publish", str(file), "--batch", "20")
    assert "publishing" not in piped.stdout + piped.stderr
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        command("publish", str(file), "--batch", "20"),
        env={**ledger.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.DEVNULL,
        stderr=secondary,
    )
    os.close(secondary)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(primary, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait(timeout=30) == 0
    assert b"publishing" in shown


def test_serve_answers_only_with_a_key(ledger: Ledger, tmp_path: Path) -> None:
    """The commands send the key of their file; without one they are refused, not let in."""
    token, entry = new_key("tests", ["publisher", "dialer"], None)
    keys = {"keys": [{"name": entry.name, "sha256": entry.sha256, "roles": entry.roles}]}
    (tmp_path / "keys.yaml").write_text(json.dumps(keys))
    (tmp_path / "key").write_text(token + "\n")
    ledger.stop("serve")
    guarded = {**ledger.environment, "CONSENT_API_KEYS_FILE": str(tmp_path / "keys.yaml")}
    locked = Ledger(ledger.broker, guarded, ledger.folder, ledger.ports)
    locked.start("serve", "serve")
    try:
        number = fresh_number()
        refused = locked.run("check", number, "--seller", "acme")
        assert refused.returncode not in (0, 3)
        assert "No valid key" in refused.stderr
        with_key = Ledger(
            ledger.broker,
            {**guarded, "CONSENT_API_KEY_FILE": str(tmp_path / "key")},
            ledger.folder,
            ledger.ports,
        )
        asked = ("check", number, "--seller", "acme", "--purpose", "informational")
        assert with_key.run(*asked).returncode == 0
        assert "Not for this key" in with_key.run("timeline", number).stderr
        assert token not in locked.log_of("serve")
    finally:
        locked.stop("serve")
        ledger.start("serve", "serve")


def test_ids_of_documents_may_be_in_any_case(ledger: Ledger, tmp_path: Path) -> None:
    """An id in capitals is the same id, also when a run is gone on with."""
    document = event("ConsentRefused", fresh_number())
    document["event_id"] = str(uuid.uuid4()).upper()
    file = write_lines(tmp_path / "events.jsonl", [document])
    results = tmp_path / "results"
    arguments = ("publish", str(file), "--results", str(results), "--json")
    assert summary(ledger.run(*arguments))["accepted"] == 1
    assert summary(ledger.run(*arguments))["skipped"] == 1
