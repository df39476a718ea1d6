"""The OpenAPI document as a page that needs no script and nothing from elsewhere.

A ledger often runs where the internet is not; the documentation must not load from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

Schema = Mapping[str, Any]

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{border-top:1px solid #ccc;padding-top:1.5rem}code,pre{background:#f4f4f4}
pre{padding:.75rem;overflow:auto}b.method{color:#05652e}table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top}
"""


class PlainRenderPlugin(OpenAPIRenderPlugin):
    """Every operation with its parameters, bodies and answers, as plain HTML."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The whole document as one page."""
        return "".join(_page(json.loads(self.render_json(request, openapi_schema)))).encode()


def _page(document: Schema) -> Iterator[str]:
    info = document["info"]
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
    yield f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
    yield f"<p>{escape(info.get('description', ''))}</p>"
    yield "<p>For programs: <a href=/docs/openapi.json>openapi.json</a>, "
    yield "<a href=/docs/openapi.yml>openapi.yml</a>.</p>"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(path, method, operation)
    yield "<h1>Bodies</h1>"
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield from _body(name, schema)


def _operation(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield f"<h2><b class=method>{method.upper()}</b> <code>{escape(path)}</code></h2>"
    yield f"<p><strong>{escape(operation.get('summary', ''))}.</strong> "
    yield f"{escape(operation.get('description', ''))}</p>"
    for parameter in operation.get("parameters", ()):
        name, place = escape(parameter["name"]), parameter["in"]
        yield f"<p><code>{name}</code> ({place}): {escape(parameter.get('description', ''))}</p>"
    content = operation.get("requestBody", {}).get("content", {})
    for media_type, body in content.items():
        yield f"<p>Body, {escape(media_type)}: {_reference(body.get('schema', {}))}</p>"
        for example in body.get("examples", {}).values():
            yield f"<pre>{escape(json.dumps(example.get('value'), indent=2))}</pre>"
    yield "<ul>"
    for status, answer in operation.get("responses", {}).items():
        schemas = [
            _reference(body.get("schema", {})) for body in answer.get("content", {}).values()
        ]
        yield f"<li>{status} {escape(answer.get('description', ''))}: {', '.join(schemas)}</li>"
    yield "</ul>"


def _body(name: str, schema: Schema) -> Iterator[str]:
    yield f"<h2 id={escape(name)}>{escape(name)}</h2><p>{escape(schema.get('description', ''))}</p>"
    required = set(schema.get("required", ()))
    yield "<table><tr><th>field<th>required<th>form"
    for field, form in schema.get("properties", {}).items():
        must = "yes" if field in required else ""
        yield f"<tr><td><code>{escape(field)}</code><td>{must}<td>{_reference(form)}"
    yield "</table>"


def _reference(schema: Schema) -> str:
    """A schema in a few words, with links to the bodies it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href=#{name}>{name}</a>"
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return " or ".join(_reference(part) for part in schema[word])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_reference(schema.get('items', {}))}"
    text = ", ".join(kind) if isinstance(kind, list) else str(kind)
    note = schema.get("description")
    return escape(text) + (f" ({escape(note)})" if note else "")
