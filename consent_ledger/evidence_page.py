"""The story of a bundle as one page of HTML: no scripts, nothing from elsewhere, good to print.

Takes the story as `story.json` has it and adds no facts. Everything that was published is escaped;
addresses in it are shown and are no links.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any, Final
from zoneinfo import ZoneInfo

from consent.instants import date_text
from consent.shown_facts import shown_facts
from consent_ledger.evidence_proof_page import proof_section
from consent_ledger.explanation import Explanation, explain
from consent_ledger.markup import join, pairs, table, tag, title_of

Event = Mapping[str, Any]

_STOPS: Final = ("ConsentWithdrawn", "ConsentRefused", "ConsentInvalidated", "DncAdded")
_VERDICTS: Final = {"ALLOW": "allow", "DENY": "deny", "UNAVAILABLE": "odd"}
_WORDS: Final = {
    "deny": "denies",
    "unknown": "not known",
    "oblige": "asks for",
    "warn": "warns",
    "pass": "saved the call",
    "shadow": "would deny",
}
# Fields that the card's head, the rules below it or the proofs show.
_HEAD: Final = ("event_id", "occurred_at", "seller_id", "source", "test")
_DECIDED: Final = ("outcomes", "applied", "watermark", "linked", "settings")
_DIGESTS: Final = ("area_table_digest", "rulebook_digest")
_TOLD_ELSEWHERE: Final = frozenset((*_HEAD, *_DECIDED, *_DIGESTS))
_DAYS: Final = ("valid_from", "valid_until")
_QUIET: Final[tuple[Any, ...]] = (None, "", [], "UNKNOWN")


def story_page(story: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """The page; `notes` are the signed checkpoints by their size."""
    number = escape(story["number"])
    own = [one for one in story["events"] if one["about"] == "number"]
    told = [one for one in own if one["in_period"]]
    before = [one for one in own if not one["in_period"]]
    around = [one for one in story["events"] if one["about"] == "program"]
    body = join(
        _head(story),
        _section("standing", "What stood at the end", _standing(story)),
        _section("story", "What happened in the period", _cards(story, told)),
        _section("before", "What was there before", _cards(story, before), not before),
        _section("wording", "What was shown and said", _wording(story)),
        _section("program", "What surrounded the calls", _cards(story, around), not around),
        _section("proof", "How this is proved", proof_section(story, notes)),
    )
    style = files("consent_ledger").joinpath("evidence_style.css").read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evidence about {number}</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _section(name: str, heading: str, content: str, empty: bool = False) -> str:
    if empty:
        return ""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>\n{content}</section>'


def _head(story: Mapping[str, Any]) -> str:
    events = [one for one in story["events"] if one["about"] == "number" and one["in_period"]]
    names = [one["fact"]["event_name"] for one in events]
    verdicts = [one["fields"]["verdict"] for one in events if one["rules"]]
    figures = (
        (len(events), "events in the period"),
        (verdicts.count("ALLOW"), "times a call was allowed"),
        (len(verdicts) - verdicts.count("ALLOW"), "times it was not"),
        (names.count("CallPlaced"), "calls placed"),
        (sum(name in _STOPS for name in names), "times told to stop"),
    )
    period = story["period"]
    begin = "the beginning" if period["from"] is None else _when(story, period["from"])
    lines = (
        f"From {escape(begin)} to {escape(_when(story, period['to']))}. "
        f"Times are those of {escape(story['zone'])}; those that end in Z are UTC.",
        f"Made {escape(_when(story, story['made_at']))} from the ledger "
        f"<code>{escape(story['checkpoint']['origin'])}</code>, "
        f"checkpoint of {story['checkpoint']['size']:,} entries.",
    )
    items = join(tag("li", f"<b>{count:,}</b>{escape(what)}") for count, what in figures)
    names_of = (("standing", "End"), ("story", "Story"), ("wording", "Wording"), ("proof", "Proof"))
    links = join(f'<a href="#{name}">{text}</a>' for name, text in names_of)
    limits = join(tag("p", escape(text)) for text in story["limits"])
    return join(
        f"<header><h1>Evidence about {escape(story['number'])}</h1>",
        *(tag("p", line, "soft") for line in lines),
        f"<nav>{links}</nav>",
        tag("ul", items, "figures"),
        f'<div class="limits small">{limits}</div></header>',
    )


def _standing(story: Mapping[str, Any]) -> str:
    """Each consent and what became of it, each opt-out."""
    if not story["standing"]:
        return tag("p", "No consent, opt-out or do-not-call entry of this number is told here.")
    rows = []
    for line in story["standing"]:
        event = story["events"][line["event"]]
        good = line["in_force"] != line["restricts"]
        until = f", {_when(story, line['at'])}" if line["at"] else ""
        status = tag("span", escape(line["how"] + until), "good" if good else "bad")
        when = escape(_when(story, event["happened_at"]))
        rows.append([when, escape(event["summary"]), escape(_seller(event["fields"])), status])
    note = "Whether a call was allowed is not only a question of consent: the decisions below tell."
    heads = ["since", "what", "for", "at the end of the period"]
    return join(table(heads, rows), tag("p", note, "soft small"))


def _cards(story: Mapping[str, Any], events: Sequence[Event]) -> str:
    if not events:
        return tag("p", "Nothing.")
    return join(_card(story, event) for event in events)


def _card(story: Mapping[str, Any], event: Event) -> str:
    fields, fact = event["fields"] or {}, event["fact"]
    seller = _seller(fields)
    source = fields.get("source") or {}
    by = ", ".join(
        str(part).lower().replace("_", " ") if number else str(part)
        for number, part in enumerate(source.values())
        if part not in _QUIET
    )
    said = [seller and f"for {seller}", by and f"from {by}"]
    late = f"recorded {_when(story, fact['recorded_at'])}"
    marks = [
        text
        for name, text in (
            ("repeated", "sent again; counted once"),
            ("id_reused", "id used for two contents"),
        )
        if event[name]
    ]
    head = join(
        f'<span class="when">{escape(_when(story, event["happened_at"]))}</span>',
        tag("h3", escape(event["summary"])),
        tag("p", escape("; ".join([*filter(None, said), late, *marks])), "soft small"),
    )
    parts = [head, _decision(event) if event["rules"] else "", _fields(fields), _evidence(event)]
    return tag("article", join(parts), f"card {_look(event)}".strip())


def _seller(fields: Mapping[str, Any]) -> str:
    seller = str(fields.get("seller_id", ""))
    return "every seller" if seller == "*" or fields.get("all_sellers") else seller


def _look(event: Event) -> str:
    if event["rules"]:
        return _VERDICTS.get(event["fields"]["verdict"], "odd")
    if event["fields"] is None:
        return "odd"
    opted_out = event["fields"].get("opted_out")
    return "stop" if opted_out or event["fact"]["event_name"] in _STOPS else ""


def _fields(fields: Mapping[str, Any]) -> str:
    rows = [
        (title_of(name), _told(value))
        for name, value in fields.items()
        if name not in _TOLD_ELSEWHERE and value not in _QUIET
    ]
    return pairs(rows)


def _evidence(event: Event) -> str:
    if event["about"] == "program" or event["fields"] is None:
        return ""
    if event["evidence"] is None:
        if not event["evidence_held"]:
            return tag("p", escape(_gone(event["evidence_gone"])), "soft small")
        return ""
    rows = [
        (title_of(name), _told(value))
        for name, value in event["evidence"].items()
        if value not in _QUIET and name != "wording"
    ]
    quoted = event["evidence"].get("wording")
    quote = tag("blockquote", escape(quoted)) if quoted else ""
    return join(tag("h4", "Evidence, as it was published"), quote, pairs(rows))


def _gone(why: Mapping[str, Any] | None) -> str:
    """Why the evidence of an event is not there."""
    match why:
        case {"by": "RETENTION", "month": month, "entry_ids": entries}:
            sealed = f"sealed in the log as {', '.join(entries)}"
            said = f"Evidence of {month} was past its retention and was deleted ({sealed})"
        case {"by": "ERASURE"}:
            said = "Evidence was erased at the person's request"
        case _:
            said = "Evidence is not held any more"
    return f"{said}; the fact still commits to it."


def _decision(event: Event) -> str:
    """The verdict, and the rules that made it."""
    fields = event["fields"]
    lines = [
        {**line, "facts": {one["name"]: one["value"] for one in line["facts"]}}
        for line in event["rules"]
    ]
    explained = explain(lines, fields["rule"], fields["reasons"])
    verdict = tag("span", escape(fields["verdict"]), "tag verdict")
    why = escape(f" {event['reason_text']}" if event["reason_text"] else "")
    passed = [line for line in lines if line["rule"] in explained.passed]
    heads = ["outcome", "rule", "what it says, and the facts it used", "written in"]
    rows = [_rule_row(line) for line in (*explained.shown, *passed)]
    return join(tag("p", verdict + why), table(heads, rows), _rest(explained, fields))


def _rule_row(line: Mapping[str, Any]) -> list[str]:
    code = line.get("exemption") or line.get("reason") or ""
    used = "; ".join(f"{title_of(k)}: {_used(k, v)}" for k, v in line["facts"].items())
    title = line.get("title") or ""
    return [
        escape(_outcome(line)),
        f"{escape(line['rule'])}<br><span class='soft'>{escape(code)}</span>",
        f"{escape(title)}<br><span class='soft'>{escape(used)}</span>",
        escape("; ".join(line.get("citation") or ())),
    ]


def _outcome(line: Mapping[str, Any]) -> str:
    outcome = str(line["outcome"]).lower()
    if outcome == "pass" and not line.get("exemption"):
        return "passes"
    return _WORDS.get(outcome, outcome)


def _rest(explained: Explanation, fields: Mapping[str, Any]) -> str:
    parts = []
    if explained.not_applicable:
        parts.append(f"{explained.not_applicable} more rules did not apply.")
    if explained.shadow:
        parts.append(f"{explained.shadow} not yet in force would have passed.")
    parts.append(f"Rulebook {fields['rulebook_digest'][:16]}…, as recorded with the decision.")
    return tag("p", escape(" ".join(parts)), "soft small")


def _wording(story: Mapping[str, Any]) -> str:
    if not story["wording"]:
        return tag("p", "No wording, notice, script or copy was recorded.")
    return join(_worded(story, one) for one in story["wording"])


def _worded(story: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    event = story["events"][one["event"]]
    quote = tag("blockquote", escape(one["text"])) if one["text"] else ""
    rows = [
        (name, _told(value))
        for name, value in (
            ("id", one["id"]),
            ("version", one["version"]),
            ("language", one["language"]),
            ("kept at", one["uri"]),
            ("SHA-256", one["sha256"]),
            ("copy in this bundle", one["copy"]),
        )
        if value
    ]
    about = f"{_when(story, event['happened_at'])}: {event['summary']}"
    head = tag("h3", escape(one["what"].capitalize()))
    return tag(
        "article", join(head, tag("p", escape(about), "soft small"), quote, pairs(rows)), "card"
    )


def _when(story: Mapping[str, Any], text: str) -> str:
    """A time in the story's zone, to the second."""
    try:
        at = datetime.fromisoformat(text).astimezone(ZoneInfo(story["zone"]))
    except (ValueError, OverflowError):
        return text
    return at.strftime("%Y-%m-%d %H:%M:%S %Z")


def _number(value: str) -> Any:
    """A recorded fact's value, as a number where it is one."""
    return int(value) if value.lstrip("-").isdecimal() and len(value) < 20 else value


def _word(value: Any) -> str:
    """A word for what was recorded as JSON."""
    return {"": "none", "true": "yes", "false": "no", "null": "unknown"}.get(str(value), str(value))


def _used(name: str, value: str) -> str:
    """A recorded fact's value; where it is JSON, its parts."""
    parsed = json.loads(value) if value[:1] in ("{", "[") else _number(value)
    if isinstance(parsed, list):
        return ", ".join(map(_plain, parsed)) or "none"
    if not isinstance(parsed, dict):
        return _word(shown_facts(((name, parsed),))[name])
    shown = shown_facts(tuple(parsed.items()))
    shown |= {k: date_text(v) for k, v in shown.items() if k in _DAYS and isinstance(v, int)}
    return ", ".join(f"{title_of(k)} {_plain(v)}" for k, v in shown.items() if v is not None)


def _membership(listed: Mapping[str, Any]) -> str:
    version = f"version {listed['version']} of {listed['version_date']}"
    words = {True: "on it", False: "not on it", None: "not known"}
    return f"{listed['list_id']}, {version}: {words[listed['member']]}"


def _told(value: Any) -> str:
    """A value as HTML."""
    if isinstance(value, Mapping):
        if value.keys() == {"name", "value"}:
            return escape(f"{title_of(value['name'])}: {_used(value['name'], value['value'])}")
        if "list_id" in value and "member" in value:
            return escape(_membership(value))
        known = [f"{title_of(k)}: {_plain(v)}" for k, v in value.items() if v not in _QUIET]
        return escape("; ".join(known))
    if isinstance(value, list):
        simple = all(isinstance(one, str | int) for one in value)
        return escape(", ".join(map(str, value))) if simple else "<br>".join(map(_told, value))
    return escape(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
