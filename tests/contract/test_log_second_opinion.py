"""Notes, proofs and tile names, read by Go's own implementation of them where Go is installed.

`golang.org/x/mod/sumdb` is what serves Go's checksum database; it shares no line with ours.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from consent.checkpoints import Checkpoint
from consent.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hashes,
    root_of,
)
from consent.notes import SigningKey, parse_note
from consent.tiles import Tile

GO_MODULE = """module secondopinion
go 1.22
require golang.org/x/mod v0.22.0
"""
GO_PROGRAM = """package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type Proof struct {
	Old, Size     int64
	OldHash, Root []byte
	Hashes        [][]byte
}

type Question struct {
	Note, Key, Text string
	Inclusions      []Proof
	Consistencies   []Proof
	Tiles           map[string][3]int64
}

func fail(format string, values ...any) {
	fmt.Printf(format+"\\n", values...)
	os.Exit(1)
}

func hash(data []byte) (h tlog.Hash) { copy(h[:], data); return }

func hashes(all [][]byte) (out []tlog.Hash) {
	for _, one := range all {
		out = append(out, hash(one))
	}
	return
}

func main() {
	var q Question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fail("question: %v", err)
	}
	verifier, err := note.NewVerifier(q.Key)
	if err != nil {
		fail("key: %v", err)
	}
	opened, err := note.Open([]byte(q.Note), note.VerifierList(verifier))
	if err != nil || opened.Text != q.Text || len(opened.Sigs) != 1 {
		fail("note: %v", err)
	}
	for _, p := range q.Inclusions {
		proof, root, old := hashes(p.Hashes), hash(p.Root), hash(p.OldHash)
		if err := tlog.CheckRecord(proof, p.Size, root, p.Old, old); err != nil {
			fail("inclusion of %d in %d: %v", p.Old, p.Size, err)
		}
	}
	for _, p := range q.Consistencies {
		proof, root, old := hashes(p.Hashes), hash(p.Root), hash(p.OldHash)
		if err := tlog.CheckTree(proof, p.Size, root, p.Old, old); err != nil {
			fail("consistency of %d with %d: %v", p.Old, p.Size, err)
		}
	}
	for path, t := range q.Tiles {
		tile := tlog.Tile{H: 8, L: int(t[0]), N: t[1], W: int(t[2])}
		if tile.Path() != path {
			fail("tile %s is called %s", path, tile.Path())
		}
	}
	fmt.Println("agreed")
}
"""
SIZES = (1, 2, 3, 7, 8, 9, 64, 100, 255, 256, 257)
HASHES = leaf_hashes(str(number).encode() for number in range(max(SIZES)))
KEY = SigningKey("ledger.example/log", b"k" * 32)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built; skips where there is no Go, or no way to its module."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    folder = tmp_path_factory.mktemp("second-opinion")
    (folder / "go.mod").write_text(GO_MODULE)
    (folder / "main.go").write_text(GO_PROGRAM)
    built = subprocess.run(
        ["go", "build", "-mod=mod", "-o", "opinion", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and ("dial tcp" in built.stderr or "no such host" in built.stderr):
        pytest.skip("Go's module proxy can't be reached")
    assert built.returncode == 0, built.stderr
    return folder / "opinion"


@pytest.mark.slow
def test_go_agrees(program: Path) -> None:
    """A signed checkpoint opens, every proof verifies, every tile has the same name."""
    question = _question()
    assert _asked(program, question) == "agreed"


def test_go_would_disagree(program: Path) -> None:
    """The question can fail: a proof of the wrong root is refused there as well."""
    question = _question()
    question["Consistencies"][-1]["Root"] = _text(bytes(32))
    assert _asked(program, question).startswith("consistency of")


def _asked(program: Path, question: dict[str, Any]) -> str:
    done = subprocess.run(
        [program], input=json.dumps(question), capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _question() -> dict[str, Any]:
    def subtree(start: int, end: int) -> bytes:
        return root_of(HASHES[start:end])

    roots = {size: root_of(HASHES[:size]) for size in range(1, max(SIZES) + 1)}
    checkpoint = Checkpoint(KEY.name, 257, roots[257])
    note = parse_note(checkpoint.text + "\n" + KEY.signature(checkpoint.text).line)
    inclusions = [
        _proof(index, size, HASHES[index], roots[size], inclusion_proof(index, size, subtree))
        for size in SIZES
        for index in sorted({0, 1, size // 2, size - 2, size - 1})
        if 0 <= index < size
    ]
    consistencies = [
        _proof(old, size, roots[old], roots[size], consistency_proof(old, size, subtree))
        for size in SIZES
        for old in SIZES
        if old <= size
    ]
    tiles = [Tile(0, 0, 7), Tile(1, 1_234_067), Tile(2, 999, 255), Tile(0, 1_000)]
    return {
        "Note": note.encoded,
        "Key": KEY.verifier.encoded,
        "Text": checkpoint.text,
        "Inclusions": inclusions,
        "Consistencies": consistencies,
        "Tiles": {
            tile.path.replace("tile/", "tile/8/"): [tile.level, tile.index, tile.width]
            for tile in tiles
        },
    }


def _proof(
    old: int, size: int, old_hash: bytes, root: bytes, hashes: list[bytes]
) -> dict[str, Any]:
    return {
        "Old": old,
        "Size": size,
        "OldHash": _text(old_hash),
        "Root": _text(root),
        "Hashes": [_text(one) for one in hashes],
    }


def _text(data: bytes) -> str:
    return b64encode(data).decode()
