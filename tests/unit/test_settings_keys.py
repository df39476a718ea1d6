"""Key files: made once, never replaced, refused when they can't be right."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from consent.errors import Rejected
from consent_ledger.api.authentication import ROLES, load_api_keys
from consent_ledger.api_key_file import NewApiKey, add_api_key
from consent_ledger.cli.keys import RoleName
from consent_ledger.keys import KeyUnusable, create_missing_keys, key_paths, load_keys, load_log_key
from consent_ledger.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


def test_keys_are_made_once(settings: Settings) -> None:
    """Each key is 32 private bytes of its own, and a second call changes nothing."""
    made = create_missing_keys(settings)
    contents = [path.read_bytes() for path in made]
    assert {len(content) for content in contents} == {32} and len(set(contents)) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert create_missing_keys(settings) == []
    assert [path.read_bytes() for path in made] == contents
    assert sorted(path.name for path in (settings.data_dir / "keys").iterdir()) == [
        "dead-letter.key",
        "history.key",
        "log.key",
        "suppression.key",
    ]


def test_each_key_is_read_from_its_own_file(settings: Settings) -> None:
    """A key is never taken for another one."""
    create_missing_keys(settings)
    keys, paths = load_keys(settings), key_paths(settings)
    assert keys.history == paths["history"].read_bytes()
    assert keys.suppression == paths["suppression"].read_bytes()
    assert keys.dead_letters == paths["dead-letter"].read_bytes()
    assert load_log_key(settings) == paths["log"].read_bytes()


def test_a_missing_key_is_not_made_when_reading(settings: Settings) -> None:
    """A worker never invents a key: it says which is missing and how to make it."""
    with pytest.raises(KeyUnusable, match=r"there is no history key.*keys init"):
        load_keys(settings)
    assert not (settings.data_dir / "keys").exists()


def test_a_key_that_others_can_write_is_refused(settings: Settings) -> None:
    """A key that another user could replace is not used."""
    create_missing_keys(settings)
    key_paths(settings)["suppression"].chmod(0o666)
    with pytest.raises(KeyUnusable, match="other users can write it"):
        load_keys(settings)


def test_a_key_of_the_wrong_length_is_refused(settings: Settings) -> None:
    """A truncated or hex-encoded key is refused with its length."""
    create_missing_keys(settings)
    key_paths(settings)["dead-letter"].write_bytes(b"x" * 64)
    with pytest.raises(KeyUnusable, match="holds 64 bytes; a key has 32"):
        load_keys(settings)


def test_the_same_key_twice_is_refused(settings: Settings) -> None:
    """One key for two purposes would let a dialer open the history."""
    create_missing_keys(settings)
    paths = key_paths(settings)
    paths["suppression"].write_bytes(paths["history"].read_bytes())
    with pytest.raises(KeyUnusable, match="three different keys"):
        load_keys(settings)


def test_an_api_key_opens_what_its_entry_says(tmp_path: Path) -> None:
    """The key on disk is the one whose digest is in the file, with its roles and sellers."""
    file, token = tmp_path / "api-keys.yaml", tmp_path / "api-dialers.key"
    assert add_api_key(file, token, NewApiKey("dialers", ("dialer",), ("acme",)))
    assert add_api_key(file, tmp_path / "other.key", NewApiKey("other", ("admin",)))
    secret = token.read_text().strip()
    principal = load_api_keys(file).principal_of(secret, now=0)
    assert principal is not None
    assert (principal.name, principal.roles) == ("dialers", frozenset({"dialer"}))
    assert principal.seller_ids == frozenset({"acme"})
    assert secret not in file.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, token)} == {0o600}


def test_an_api_key_is_never_replaced(tmp_path: Path) -> None:
    """A name that is there keeps its key, so that a repeated set-up locks nobody out."""
    file, token = tmp_path / "api-keys.yaml", tmp_path / "api-a.key"
    assert add_api_key(file, token, NewApiKey("a", ("admin",)))
    before = file.read_text(), token.read_text()
    assert not add_api_key(file, token, NewApiKey("a", ("dialer",)))
    assert (file.read_text(), token.read_text()) == before


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    """A key's name becomes part of a file's name, so it can't lead anywhere else."""
    with pytest.raises(Rejected):
        add_api_key(tmp_path / "api-keys.yaml", tmp_path / "t.key", NewApiKey(name, ("admin",)))


def test_the_command_knows_every_role() -> None:
    """The roles that the command offers are those of the API."""
    assert tuple(RoleName) == ROLES
