"""Small parts of HTML pages. Whoever calls escapes what it did not write itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def join(*parts: str | Iterable[str]) -> str:
    """Parts one below the other; empty ones are left out."""
    flat = (one for part in parts for one in ((part,) if isinstance(part, str) else part))
    return "\n".join(one for one in flat if one)


def tag(name: str, content: str, classes: str = "") -> str:
    """An element around content that is HTML already."""
    given = f' class="{classes}"' if classes else ""
    return f"<{name}{given}>{content}</{name}>"


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names, which are text, and values, which are HTML; nothing if there are none."""
    if not rows:
        return ""
    cells = (
        f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows
    )
    return tag("table", join(cells), "pairs")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], plain: bool = False) -> str:
    """A table with a head of texts and cells of HTML; `plain`: without the head's row."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = join(tag("tr", "".join(tag("td", cell) for cell in row)) for row in rows)
    body = tag("tbody", lines)
    return tag("table", body if plain else join(tag("thead", tag("tr", head)), body), "rows")


def title_of(name: str) -> str:
    """A field's name as a person reads it."""
    return name.replace("_", " ")
