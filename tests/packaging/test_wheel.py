"""What the wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "-w", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_every_data_file_is_shipped(wheel: zipfile.ZipFile) -> None:
    """Schemas and rules are package data of `consent`, all of them."""
    names = set(wheel.namelist())
    for folder in ("schemas", "rules"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"consent/data/{path.relative_to(ROOT).as_posix()}" in names


def test_every_module_is_shipped(wheel: zipfile.ZipFile) -> None:
    """Sub-packages, migrations and templates are in the wheel."""
    names = set(wheel.namelist())
    for package in ("consent", "projections", "streams", "consent_ledger"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names


def test_a_wheel_installed_elsewhere_finds_its_contracts(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    """The installed package reads its own copy of the schemas."""
    wheel.extractall(tmp_path)
    program = (
        "import consent.contracts as c;"
        "print(c.data_path('schemas'));"
        "assert c.contracts().record('ConsentGranted').schema_id;"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "consent" / "data" / "schemas") in done.stdout
