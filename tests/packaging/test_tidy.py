"""House rules that a machine can hold true."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("consent", "projections", "streams", "consent_ledger")
FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 50


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, or in the source tree where there is none."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_stay_small() -> None:
    """A file is at most 400 lines, a test file 600: longer ones hold more than one idea."""
    long = []
    for path in tracked("*.py"):
        lines_max = TEST_FILE_LINES_MAX if "tests" in path.parts else FILE_LINES_MAX
        lines = len(path.read_text().splitlines())
        if lines > lines_max:
            long.append((str(path.relative_to(ROOT)), lines))
    assert not long


def test_functions_stay_short() -> None:
    """A function is at most 50 lines."""
    long = []
    for package in PACKAGES:
        for path in tracked(f"{package}/**/*.py", f"{package}/*.py"):
            for function in functions(path):
                lines = (function.end_lineno or function.lineno) - function.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append((path.name, function.name, lines))
    assert not long


def test_modules_say_what_they_own() -> None:
    """Every module begins with a docstring."""
    silent = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in tracked(f"{package}/**/*.py", f"{package}/*.py")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_module_is_a_drawer() -> None:
    """No `utils`, `helpers`, `common` or `manager`: a name says which idea a module holds."""
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [path for path in tracked("*.py") if path.stem in drawers]


@pytest.mark.parametrize(
    "word", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
)
def test_nothing_is_left_for_later(word: str) -> None:
    """What is not done is in an issue, not in the code."""
    pattern = re.compile(rf"\b{word}\b")
    assert not [path for path in tracked("*.py", "*.sql") if pattern.search(path.read_text())]


def test_no_machine_is_named() -> None:
    """No path of one machine is in what is shipped."""
    pattern = re.compile(r"(?<![\w.])/(work|farm|home|root)/")
    found = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py", "*.md", "*.yaml", "*.toml", "*.sql", "Makefile", "docker/*")
        if path != Path(__file__) and pattern.search(path.read_text())
    ]
    assert not found


def test_docker_holds_no_python() -> None:
    """Images run what the package ships."""
    assert not tracked("docker/*.py", "docker/**/*.py")
