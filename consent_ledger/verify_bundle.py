"""Checks an evidence bundle offline: Python's standard library and `cryptography`, nothing else.

    python verify_bundle.py BUNDLE.zip --key "ledger.example/log+1a2b3c4d+..."

Take this file from a release of the ledger: a bundle can't vouch for itself. Exit code 0: good.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import struct
import sys
import zipfile
import zlib
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST, KEY, STORY = "MANIFEST.txt", "log-key.txt", "story.json"
FORMAT = "consent-ledger evidence bundle v1"
LIMITS = """
This proves inclusion: what is told here was sealed, and was not altered since. It does not prove
completeness: whether something was left out, only the ledger's store shows (`consent-ledger
verify`). Summaries, receipts and the page are the ledger's own words, signed, about these facts."""
Files = dict[str, bytes]


class Failed(Exception):
    """What is wrong with a bundle."""


class Key(NamedTuple):
    """A public key; kind 1 signs logs and bundles, kind 4 is a witness's."""

    name: str
    key_id: bytes
    kind: int
    public: bytes


def require(good: bool, otherwise: str) -> None:
    """Failed unless it is good."""
    if not good:
        raise Failed(otherwise)


def zip_bytes(files: Files) -> bytes:
    """The one archive of these files: no compression, no times, so that every byte is fixed."""
    body, index, count = bytearray(), bytearray(), len(files)
    for name, data in sorted(files.items()):
        path, size = name.encode("ascii"), len(data)
        head = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(data), size, size, len(path), 0)
        index += b"PK\1\2\x14\3" + head + bytes(8) + struct.pack("<HL", 0o100644, len(body)) + path
        body += b"PK\3\4" + head + path + data
    end = struct.pack("<4H2LH", 0, 0, count, count, len(index), len(body), 0)
    return bytes(body + index + b"PK\5\6" + end)


def read(path: Path) -> Files:
    """The files of a bundle, packed or unpacked; Failed if an archive has any byte beside them."""
    if path.is_dir():
        found = (one for one in path.rglob("*") if one.is_file())
        return {one.relative_to(path).as_posix(): one.read_bytes() for one in found}
    data = path.read_bytes()
    with zipfile.ZipFile(BytesIO(data)) as packed:
        stored = all(one.compress_type == zipfile.ZIP_STORED for one in packed.infolist())
        require(stored, "the archive was packed again; unpack it and check the folder")
        files = {one.filename: packed.read(one) for one in packed.infolist()}
    require(zip_bytes(files) == data, "the archive holds bytes that no bundle has")
    return files


def parse_key(text: str) -> Key:
    """A key as `consent-ledger keys log` prints it."""
    name, key_id, encoded = text.removesuffix("\n").split("+", 2)
    material = unbase64(encoded)
    own = sha256(name.encode() + b"\n" + material).hexdigest()[:8]
    require(own == key_id and len(material) == 33, "the key does not have its own id")
    return Key(name, bytes.fromhex(key_id), material[0], material[1:])


def unbase64(text: str) -> bytes:
    """Bytes of base64 in its one usual spelling."""
    data = base64.b64decode(text, validate=True)
    require(base64.b64encode(data).decode() == text, "base64 is spelled in an unusual way")
    return data


def opened(note: bytes, key: Key, alone: bool = False) -> tuple[list[str], int]:
    """Lines of a note that the key signed, and when, if a witness did; `alone`: nobody else."""
    text, _, below = note.decode().rpartition("\n\n")
    signatures = re.findall("\u2014 ([^ \n]+) ([^ \n]+)\n", below)
    lines = "".join(f"\u2014 {name} {encoded}\n" for name, encoded in signatures)
    require(lines == below, "a signature is not written as one")
    found = [data for name, data in signatures if name == key.name]
    found = [data[4:] for data in map(unbase64, found) if data[:4] == key.key_id]
    require(bool(found) and not (alone and len(signatures) > 1), f"{key.name} did not sign it")
    message, at, signature = text + "\n", 0, found[-1]
    if key.kind == 4:
        at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        message = f"cosignature/v1\ntime {at}\n{message}"
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message.encode())
    return text.split("\n"), at


def check_manifest(files: Files, key: Key) -> str:
    """Every file is there as it was signed, and no other is."""
    (title, log, *lines), _ = opened(files[MANIFEST], key, alone=True)
    require((title, log) == (FORMAT, f"log {key.name}"), "the manifest is of another format or log")
    named = {line[66:]: line[:64] for line in lines}
    for name in sorted({*named, *files} - {MANIFEST}):
        require(name in named, f"{name} was added")
        require(name in files, f"{name} is missing")
        require(sha256(files[name]).hexdigest() == named[name], f"{name} was changed")
    return f"{len(files)} files are as {key.name} signed them, none was added, none removed"


def climbed(leaf: bytes, index: int, size: int, path: list[str]) -> bytes:
    """Root of the Merkle tree (RFC 6962) of `size` leaves in which a path leads up from a leaf."""
    require(0 <= index < size, "a leaf lies outside of its tree")
    node, last = sha256(b"\0" + leaf).digest(), size - 1
    for other in map(unbase64, path):
        require(last > 0, "a proof is too long")
        if index & 1 or index == last:
            node = sha256(b"\1" + other + node).digest()
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\1" + node + other).digest()
        index, last = index >> 1, last >> 1
    require(last == 0, "a proof is too short")
    return node


def decoded(schema: dict[str, Any], data: bytes) -> Any:
    """One Avro body by its schema: times and dates as text, bytes in hexadecimal."""
    stream = BytesIO(data)

    def take(count: int) -> bytes:
        part = stream.read(max(count, 0))
        require(len(part) == count, "a record ends too early")
        return part

    def long() -> int:
        number = shift = 0
        while (byte := take(1)[0]) >= 0x80:
            number, shift = number | (byte & 0x7F) << shift, shift + 7
        number |= byte << shift
        return number >> 1 ^ -(number & 1)

    def value(kind: Any) -> Any:
        if isinstance(kind, list):
            return value(kind[long()])
        match kind if isinstance(kind, str) else kind["type"]:
            case "record":
                return {field["name"]: value(field["type"]) for field in kind["fields"]}
            case "int" | "long":
                return told(long(), "" if isinstance(kind, str) else kind.get("logicalType", ""))
            case "string":
                return take(long()).decode()
            case "bytes" | "fixed" as name:
                return take(long() if name == "bytes" else kind["size"]).hex()
            case "boolean":
                return take(1) != b"\0"
            case "enum":
                return kind["symbols"][long()]
            case "array":
                items: list[Any] = []
                while count := long():  # one below 0 is followed by its size in bytes
                    count = count if count > 0 else -count + 0 * long()
                    items += [value(kind["items"]) for _ in range(count)]
                return items
            case other:
                return None if other == "null" else value(other)

    found = value(schema)
    require(not stream.read(), "a record does not fit its schema")
    return found


def told(number: int, logical: str) -> Any:
    """A number as what it stands for; a time that no calendar has, as its digits."""
    try:
        if logical == "timestamp-micros":
            at = datetime(1970, 1, 1) + timedelta(microseconds=number)
            return f"{at.isoformat()}Z"
        return date.fromordinal(719_163 + number).isoformat() if logical == "date" else number
    except (OverflowError, ValueError):
        return str(number)


def check_facts(files: Files, key: Key, schemas: Any) -> list[Any]:
    """Each fact is in a block, and each block in the log under every checkpoint that it names."""
    trees, headers, facts = {}, list[Any](), list[Any]()
    for name in (name for name in files if name.startswith("checkpoints/")):
        (origin, size, root, *_), _ = opened(files[name], key)
        require(origin == key.name and name == f"checkpoints/{size}.txt", f"{name}: another log's")
        trees[size] = (int(size), unbase64(root))
    proofs = json.loads(files["facts.json"])
    for block in proofs["blocks"]:
        entry, index = unbase64(block["entry"]), block["index"]
        kind, _, body = entry.partition(b"\n")
        require(kind == b"BlockSealed.v1" and block["proofs"], f"log entry {index} heads no block")
        for size, path in block["proofs"].items():
            made = climbed(entry, index, trees[size][0], path)
            require(made == trees[size][1], f"log entry {index} is not under checkpoint {size}")
        headers.append(decoded(schemas["BlockSealed.v1"], body))
    for proof in proofs["facts"]:
        data, header = unbase64(proof["fact"]), headers[proof["block"]]
        fact = decoded(schemas["Fact.v1"], data)
        made = climbed(data, proof["leaf"], header["records"], proof["path"])
        same = all(fact[name] == header[name] for name in ("log_id", "topic", "partition"))
        require(same and made.hex() == header["root"], f"fact {len(facts)} is not in its block")
        facts.append(fact)
    return facts


def rules_of(files: Files, decision: dict[str, Any]) -> list[Any]:
    """A decision's outcomes, with title and citation as its rulebook has them."""
    digest = decision["rulebook_digest"]
    content = files.get(f"rulebooks/{digest}.json")
    require(content is None or sha256(content).hexdigest() == digest, "a rulebook was changed")
    rows = json.loads(content or b"{}").get("rules", ())
    known = {f"{row['id']}@{row['rev']}": row for row in rows}
    kept = [(one, known.get(one["rule"], {})) for one in decision["outcomes"]]
    return [one | {name: row.get(name) for name in ("title", "citation")} for one, row in kept]


def check_story(files: Files, facts: list[Any], schemas: Any) -> str:
    """The story tells these facts, and what they committed to; copies have digests they state."""
    story, rows = json.loads(files[STORY]), json.loads(files["evidence.json"])
    require(len(story["events"]) == len(facts), "the story does not tell each fact once")
    require(set(rows) <= {str(index) for index in range(len(facts))}, "evidence of no fact")
    for index, (event, fact) in enumerate(zip(story["events"], facts, strict=True)):
        where = f"{fact['topic']}/{fact['partition']}/{fact['offset']}"
        name, row = fact["event_name"], rows.get(str(index))
        kind = schemas.get(f"{name}.v{fact['event_version']}")
        payload, evidence = bytes.fromhex(fact.pop("payload")), None
        fields = None if fact["unreadable"] else decoded(kind["payload"], payload)
        if row is not None:
            data = unbase64(row["evidence"] or "")
            sealed = sha256(bytes.fromhex(row["salt"]) + row["number"].encode() + data).hexdigest()
            require(sealed == fact["commitment"], f"the evidence of {where} was changed")
            require(row["number"] == story["number"], f"{where} is about another number")
            evidence = decoded(kind["evidence"], data) if row["evidence"] is not None else None
        rules = rules_of(files, fields) if fields and name == "DialDecision" else []
        expected = {"fact": fact, "fields": fields, "evidence": evidence, "rules": rules}
        same = all(event[part] == value for part, value in expected.items())
        require(same, f"the story tells {where} otherwise than it is")
        require(fact["subject"] in (None, story["subject"]), f"{where} is about another subject")
    stated = json.dumps([event["fields"] for event in story["events"]])
    for name in (name for name in files if name.startswith("copies/")):
        require(sha256(files[name]).hexdigest() in stated, f"{name}: no fact states its digest")
    return f"the story tells each as it is; {len(rows)} are bound by it to {story['number']}"


def check(files: Files, key: Key, witnesses: list[Key]) -> list[str]:
    """What was found good; Failed, or another error, for the first thing that is not."""
    good, schemas = [check_manifest(files, key)], json.loads(files["schemas.json"])
    facts, size = check_facts(files, key, schemas), json.loads(files[STORY])["checkpoint"]["size"]
    good.append(f"{len(facts)} facts are in the log of {size} entries that {key.name} signed")
    good.append(check_story(files, facts, schemas))
    for witness in witnesses:
        at = datetime.fromtimestamp(opened(files[f"checkpoints/{size}.txt"], witness)[1], UTC)
        good.append(f"witness {witness.name} had seen the newest checkpoint at {at.isoformat()}")
    return good


def main() -> int:
    """Check the bundle that the command line names."""
    parser = argparse.ArgumentParser(description="Check an evidence bundle offline.")
    parser.add_argument("bundle", type=Path, help="the .zip, or the folder it was unpacked to")
    parser.add_argument("--key", help="the log's public key, had from elsewhere; or a file of it")
    parser.add_argument("--witness", action="append", default=[], help="a witness's public key")
    given = parser.parse_args()
    try:
        files = read(given.bundle)
        text = given.key or files[KEY].decode()
        key = parse_key(text if "+" in text else Path(text).read_text())
        for line in check(files, key, [parse_key(one) for one in given.witness]):
            print(f"ok      {line}")
    except Exception as problem:  # noqa: BLE001 (whatever can't be read is no bundle)
        print(f"FAILED  {problem if isinstance(problem, Failed) else repr(problem)}")
        return 1
    print(LIMITS)
    said = "VERIFIED with your key" if given.key else "CONSISTENT. Compare with the published key"
    print(f"{said}: {text.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
