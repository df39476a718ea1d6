"""An HTTP server that answers as Confluent's schema registry documents, for the client's tests.

It implements the published interface (subjects, versions, ids, compatibility, basic authentication,
error codes) from its description. It stands in for a registry server, which is not packaged for
Python; what a vendor's server does beyond the description is not covered.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from consent_ledger.schema_evolution import unreadable_parts

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
USER, PASSWORD = "ledger", "s3cret"


class Problem(Exception):
    """An error answer: HTTP status, the registry's own code, and a message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Registry:
    """What the server holds, and what it was asked."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.versions: dict[str, list[str]] = {}
        self.levels: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures_left = 0
        self.failure_status = 503
        self.failure_body = b'{"error_code": 50003, "message": "forwarding failed"}'
        self.needs_password = False
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> Any:
        """The document that answers a request; Problem otherwise."""
        match method, [unquote(step) for step in path.strip("/").split("/")]:
            case "GET", ["subjects"]:
                return sorted(self.versions)
            case "GET", ["subjects", subject, "versions"]:
                return list(range(1, len(self._versions(subject)) + 1))
            case "POST", ["subjects", subject, "versions"]:
                return {"id": self._register(subject, _schema_text(body))}
            case "POST", ["subjects", subject]:
                return self._looked_up(subject, _schema_text(body))
            case "GET", ["schemas", "ids", schema_id]:
                return {"schema": self._by_id(int(schema_id))}
            case "PUT", ["config", subject]:
                self.levels[subject] = body["compatibility"]
                return {"compatibility": body["compatibility"]}
            case "GET", ["config", subject]:
                if subject not in self.levels:
                    raise Problem(404, 40408, f"Subject '{subject}' has no compatibility level")
                return {"compatibilityLevel": self.levels[subject]}
        raise Problem(404, 404, "HTTP 404 Not Found")

    def _versions(self, subject: str) -> list[str]:
        if subject not in self.versions:
            raise Problem(404, 40401, f"Subject '{subject}' not found.")
        return self.versions[subject]

    def _register(self, subject: str, text: str) -> int:
        held = self.versions.setdefault(subject, [])
        if text not in held:
            if self.levels.get(subject) == "FULL_TRANSITIVE":
                self._check_compatible(held, text)
            held.append(text)
        return self.ids.setdefault(text, 100_001 + len(self.ids))

    def _check_compatible(self, held: list[str], text: str) -> None:
        new = json.loads(text)
        for old in map(json.loads, held):
            found = [*unreadable_parts(new, old), *unreadable_parts(old, new)]
            if found:
                raise Problem(409, 409, f"Schema being registered is incompatible: {found}")

    def _looked_up(self, subject: str, text: str) -> Any:
        held = self._versions(subject)
        if text not in held:
            raise Problem(404, 40403, "Schema not found")
        version = held.index(text) + 1
        return {"subject": subject, "id": self.ids[text], "version": version, "schema": text}

    def _by_id(self, schema_id: int) -> str:
        for text, held_id in self.ids.items():
            if held_id == schema_id:
                return text
        raise Problem(404, 40403, f"Schema {schema_id} not found")


def _schema_text(body: Any) -> str:
    """The schema as the registry stores it: parsed and written again without white space."""
    try:
        schema = json.loads(body["schema"])
        parse_schema(json.loads(body["schema"]))
    except (ValueError, KeyError, TypeError, SchemaParseException, UnknownType) as problem:
        raise Problem(422, 42201, f"Input schema is an invalid Avro schema: {problem}") from None
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


@contextlib.contextmanager
def registry_server() -> Iterator[Registry]:
    """A registry on a free port of 127.0.0.1, empty."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one segment, or each answer waits for an ACK

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            registry.requests.append((self.command, self.path))
            if registry.failures_left:
                registry.failures_left -= 1
                self._reply(registry.failure_status, registry.failure_body)
                return
            try:
                self._check_password()
                self._reply(
                    200, json.dumps(registry.answer(self.command, self.path, body)).encode()
                )
            except Problem as problem:
                document = {"error_code": problem.code, "message": str(problem)}
                self._reply(problem.status, json.dumps(document).encode())

        def _check_password(self) -> None:
            wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if registry.needs_password and self.headers.get("Authorization") != wanted:
                raise Problem(401, 40101, "Unauthorized")

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
