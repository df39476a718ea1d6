"""The part of the page that says how each fact is proved, what to run, and what is not proved."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from consent_ledger.markup import join, pairs, table, tag


def proof_section(story: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """How to verify, the way from facts to checkpoints, and the checkpoints themselves."""
    return join(
        tag("h3", "Check it yourself"),
        tag(
            "p",
            "Every event above is a <i>fact</i>, bytes that the ledger sealed when it recorded the "
            "event. A fact is a leaf of its block's Merkle tree; the block's header is an entry of "
            "the ledger's log; the log's root is signed in a checkpoint. <code>facts.json</code> "
            "holds the hashes that lead from each fact to a checkpoint, and the manifest the hash "
            "of every file of this bundle, signed with the log's key.",
        ),
        tag("pre", escape(_COMMAND)),
        tag(
            "p",
            "Take the program from a release of the ledger, and the key from where its operator "
            "publishes it, not from this bundle. The key that this bundle was signed with is "
            f"<code>{escape(story['key'])}</code>.",
        ),
        tag("h3", "Where the facts are"),
        table(
            ["fact", "event", "block", "log entry", "first checkpoint", "newest"],
            (_fact_row(number, one) for number, one in enumerate(story["events"])),
        ),
        tag("h3", "Rulebooks"),
        _rulebooks(story),
        tag("h3", "Signed checkpoints"),
        join(_checkpoint(size, note) for size, note in notes.items()),
    )


_COMMAND = "python verify_bundle.py BUNDLE.zip --key KEY"


def _fact_row(number: int, event: Mapping[str, Any]) -> list[str]:
    fact, proof = event["fact"], event["proof"]
    place = f"{fact['topic']}/{fact['partition']}/{fact['offset']}"
    return [
        escape(place),
        escape(f"{number + 1}. {fact['event_name'] or 'unreadable'}"),
        escape(f"{proof['offset_first']} to {proof['offset_last']}, leaf {proof['leaf']}"),
        f"{proof['entry']:,}",
        f"{proof['checkpoints'][0]:,}",
        f"{proof['checkpoints'][-1]:,}",
    ]


def _rulebooks(story: Mapping[str, Any]) -> str:
    if not story["rulebooks"]:
        return tag("p", "No decision is told here, so none was needed.")
    rows = [
        (
            one["version"] or "version not known",
            f"<code>{one['digest']}</code>"
            + ("" if one["file"] else " (its content is not kept in this history)"),
        )
        for one in story["rulebooks"]
    ]
    return pairs(rows)


def _checkpoint(size: str, note: str) -> str:
    lines = note.rpartition("\n\n")[2].splitlines()
    names = [line.split(" ")[1] for line in lines]
    said = f"{int(size):,} entries, signed by {', '.join(names)}"
    return join(tag("h4", escape(said)), tag("pre", escape(note)))
