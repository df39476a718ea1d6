"""Keys that sign permits: made whole, published before they sign, retired without a gap."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from consent.errors import Rejected
from consent.instants import MICROSECONDS
from consent.key_entries import key_made, key_retired
from consent.permits import PermitInvalid, public_keys_of, read_permit
from consent_ledger.cli.main import main
from consent_ledger.keys import KeyUnusable
from consent_ledger.permit_keys import (
    create_missing_permit_key,
    load_permit_keys,
    make_permit_key,
    permit_keys_folder,
    read_permit_keys,
    retire_permit_key,
)
from consent_ledger.settings import Settings, load_settings
from tests.permits import TERMS

SECOND = MICROSECONDS
OVERLAP = 600 * SECOND
NOW = 1_795_000_000 * SECOND


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


@pytest.fixture
def folder(settings: Settings) -> Path:
    return permit_keys_folder(settings)


def test_the_first_key_signs_at_once(settings: Settings, folder: Path) -> None:
    """A new ledger has one private key, and a second call changes nothing."""
    (path,) = create_missing_permit_key(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert create_missing_permit_key(settings) == []
    (key,) = read_permit_keys(folder).keys
    assert read_permit_keys(folder).signer(key.created_at).key_id == path.stem
    assert repr(key.seed) not in repr(key)


def test_a_new_key_is_published_before_it_signs(folder: Path) -> None:
    """Verifiers know it by the time that they meet it; the old one signs until then."""
    old = make_permit_key(folder, NOW, NOW).stem
    new = make_permit_key(folder, NOW + 1, NOW + OVERLAP).stem
    ring = read_permit_keys(folder)
    assert set(public_keys_of(ring.key_set(NOW + 1))) == {old, new}
    assert ring.signer(NOW + OVERLAP - 1).key_id == old
    assert ring.signer(NOW + OVERLAP).key_id == new


def test_a_retired_key_is_published_while_its_permits_can_be_good(folder: Path) -> None:
    """Its last permit, and the time that a verifier may take, are covered; its secret is gone."""
    old = make_permit_key(folder, NOW, NOW).stem
    new = make_permit_key(folder, NOW + 1, NOW + 1).stem
    before = read_permit_keys(folder)
    token = before.signer(NOW).permit(TERMS)
    retired = retire_permit_key(folder, old, NOW + 2, OVERLAP)
    assert retired.listed_until == NOW + 2 + 60 * SECOND + OVERLAP
    ring = read_permit_keys(folder)
    assert read_permit(token, public_keys_of(ring.key_set(NOW + 2 + 60 * SECOND))) == TERMS
    assert set(public_keys_of(ring.key_set(retired.listed_until))) == {new}
    assert "d" not in json.loads((folder / f"{old}.jwk").read_text())
    assert [key.state(NOW + 3) for key in ring.keys] == ["retired", "signs"]


def test_a_key_retired_in_good_faith_can_be_dropped_later(folder: Path) -> None:
    """If it turns out that others have it; when it was retired stays as it is."""
    old = make_permit_key(folder, NOW, NOW).stem
    make_permit_key(folder, NOW, NOW)
    retire_permit_key(folder, old, NOW, OVERLAP)
    retire_permit_key(folder, old, NOW + 1, OVERLAP, at_once=True)
    ring = read_permit_keys(folder)
    assert old not in public_keys_of(ring.key_set(NOW + 1))
    assert ring.find(old).retired_at == NOW


def test_the_last_key_is_not_retired(folder: Path) -> None:
    """Nor one whose successor does not sign yet: allows would be without permits."""
    only = make_permit_key(folder, NOW, NOW).stem
    make_permit_key(folder, NOW, NOW + OVERLAP)
    with pytest.raises(Rejected, match="LAST_KEY"):
        retire_permit_key(folder, only, NOW + 1, OVERLAP)
    assert retire_permit_key(folder, only, NOW + OVERLAP, OVERLAP).key_id == only
    with pytest.raises(Rejected, match="KEY_RETIRED"):
        retire_permit_key(folder, only, NOW + OVERLAP, OVERLAP)


def test_a_clock_that_was_set_back_stops_no_calls(folder: Path) -> None:
    """Before the first key's time the first key signs."""
    first = make_permit_key(folder, NOW, NOW).stem
    make_permit_key(folder, NOW, NOW + OVERLAP)
    assert read_permit_keys(folder).signer(NOW - 1).key_id == first


def test_a_ledger_without_a_key_is_told_what_to_do(settings: Settings) -> None:
    with pytest.raises(KeyUnusable, match=r"no key that signs permits.*keys init"):
        load_permit_keys(settings, NOW)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kty": "OKP"}'])
def test_a_file_that_is_no_key_is_named(folder: Path, content: str) -> None:
    path = make_permit_key(folder, NOW, NOW)
    path.write_text(content)
    with pytest.raises(KeyUnusable, match="is no key"):
        read_permit_keys(folder)


def test_a_private_part_of_another_key_is_refused(folder: Path) -> None:
    """What is published must verify what is signed."""
    one, other = (make_permit_key(folder, NOW, NOW) for _ in range(2))
    mixed = {**json.loads(one.read_text()), "d": json.loads(other.read_text())["d"]}
    one.write_text(json.dumps(mixed))
    with pytest.raises(KeyUnusable, match="is no key"):
        read_permit_keys(folder)


def test_a_key_that_others_can_write_is_refused(folder: Path) -> None:
    make_permit_key(folder, NOW, NOW).chmod(0o622)
    with pytest.raises(KeyUnusable, match="other users can write it"):
        read_permit_keys(folder)


def test_what_is_sealed_of_a_key_is_told_alike_by_all() -> None:
    """Its entries follow from its public part and dates, and another date is another entry."""
    made = key_made("k", b"p" * 32, NOW, NOW + 1)
    assert made == key_made("k", b"p" * 32, NOW, NOW + 1)
    assert made["entry_id"] != key_made("k", b"p" * 32, NOW, NOW + 2)["entry_id"]
    retired = key_retired("k", NOW, NOW + 5)
    assert retired["entry_id"] != key_retired("k", NOW, NOW)["entry_id"]
    assert {made["entry_kind"], retired["entry_kind"]} == {"KEY"}


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rotation as an operator does it; nothing printed is secret."""
    monkeypatch.setenv("CONSENT_DATA_DIR", str(tmp_path))

    def run(*arguments: str) -> str:
        assert main(["keys", *arguments]) == 0
        return capsys.readouterr().out

    assert "made permit key" in run("init")
    assert "kept permit key" in run("init")
    (first,) = json.loads(run("permit", "list", "--json"))
    assert first["state"] == "signs"
    waiting = json.loads(run("permit", "new", "--json"))
    assert waiting["state"] == "waits"
    assert main(["keys", "permit", "retire", first["key_id"]]) == 2
    assert "LAST_KEY" in capsys.readouterr().err
    assert json.loads(run("permit", "new", "--at-once", "--json"))["state"] == "signs"
    assert json.loads(run("permit", "retire", first["key_id"][:8], "--json"))["state"] == "retired"
    assert "published until" in run("permit", "list")
    secrets = [json.loads(path.read_text()).get("d", "-") for path in permit_files(tmp_path)]
    assert all(secret not in run("permit", "list", "--json") for secret in secrets if secret != "-")
    assert main(["keys", "permit", "retire", "nothing"]) == 2


def permit_files(folder: Path) -> list[Path]:
    return sorted((folder / "keys" / "permit").glob("*.jwk"))


def test_a_permit_of_a_stolen_key_is_void(folder: Path) -> None:
    """Whoever reads the key set after `--at-once` refuses every permit of that key."""
    old = make_permit_key(folder, NOW, NOW).stem
    make_permit_key(folder, NOW + 1, NOW + 1)
    token = read_permit_keys(folder).signer(NOW).permit(TERMS)
    retire_permit_key(folder, old, NOW + 2, OVERLAP, at_once=True)
    keys = public_keys_of(read_permit_keys(folder).key_set(NOW + 2))
    with pytest.raises(PermitInvalid, match="not known"):
        read_permit(token, keys)
