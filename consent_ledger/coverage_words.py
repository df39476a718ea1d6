"""What the page about coverage says in its own words, around the tables."""

from __future__ import annotations

from typing import Final

BEFORE: Final = """# What the rulebook covers

This page is engineering input and **not legal advice**. It says which law is encoded, from which
sources, and how sure each row is; counsel must sign each row before it is relied on. The rows were
collected on 2026-11-21 from material up to about 2026-10-08; what was enacted since is not known.

It is generated from the rulebook, version {version}, {rows} rows: `make rules`. How a call is
decided is told in [decisions and reasons](decisions-and-reasons.md), how a row is written and tried
in [rules](rules.md).

## How sure a row is

| mark | means |
|---|---|
| P | a source quotes or says that it read the primary text |
| S | secondary sources only: law firms, vendors, press |
| K | from memory, not seen in a source |
| H | the house's own policy: no statute asks for it in this form |

Where sources conflict, or a date is from memory, the note of the row says so and the stricter
reading is taken: the shorter clock, the narrower window, the earlier first day of a ban. A mark
speaks of the text, not of what a court makes of it."""

CONFLICTS: Final = (
    (
        "FCC 26-67",
        "adopted 2026-09-30, publication not seen, known from a draft",
        ("in shadow, without a date; if it is in force, the revoke-all rule of 2027-01-31 is moot"),
    ),
    (
        "Consent and federal quiet hours",
        (
            "the text excepts calls with consent or a relationship, hundreds of suits say "
            "otherwise, the FCC is silent"
        ),
        "strict: nobody is excepted; statutory: the text",
    ),
    (
        "Bradford v. Sovereign Pest (5th Cir.)",
        "oral consent suffices for recorded marketing in TX, LA, MS",
        "not relied on",
    ),
    (
        "Two federal clocks of a relationship",
        (
            "18 and 3 months (FCC), 540 and 90 days (TSR); the FTC's own questions and "
            "answers still say 18 and 3 months"
        ),
        "both must still run",
    ),
    (
        "Pennsylvania, Act 47 of 2026",
        "in force on 2026-10-18 by two readings, one of them to be confirmed by counsel",
        "taken as in force",
    ),
    (
        "Alabama, PSC rule",
        '"all live solicitation calls to consumers", or only utilities',
        "all",
    ),
    (
        "Nevada, South Dakota, Oklahoma, Michigan",
        "sources differ on hours or on whether there are any",
        "the narrower",
    ),
    (
        "Delaware, ten years of retention",
        "rests on one source",
        "not encoded",
    ),
    (
        "Generated voices",
        (
            "whether a language model that speaks is an artificial voice, a prerecorded "
            "message or an automated calling system is unsettled nearly everywhere"
        ),
        "it is all of them",
    ),
    (
        "France, décret 2022-1313",
        "whether hours, caps and cooling-off survive 2026-08-11 was not found",
        "kept",
    ),
    (
        "Spain, Ley 10/2025",
        "renewal every two years and the prefix 400 rest on press reports",
        "the renewal decides, the prefix runs in shadow",
    ),
    (
        "Ofcom, abandoned calls",
        "no rate is safe since 2017-03-01; most documents still say 3 %",
        "3 % is the house's target in strict; statutory asks nothing",
    ),
    (
        "Britain, calls within 72 hours of an abandoned one",
        "from the statement of 2010, not repeated in the policy of 2016",
        "kept in both profiles",
    ),
    (
        "India, hours",
        ("from texts of 2010 and 2011; time bands of the register are scrubbed by operators"),
        "09:00 to 21:00",
    ),
)
"""Where sources conflict or are open: where, what, and the reading that is taken."""

LEFT_OUT: Final = """## What is left out, on purpose or for want of a source

- Countries without rows of their own are not called (`POLICY-COVERAGE`): other members of the EU,
  Singapore, Korea, Japan, Brazil, whose rows rest on memory alone.
- Canada: stricter laws of provinces, subscriptions by area code, the end of a call of a machine
  within ten seconds of hanging up.
- United Kingdom: that the calling number is shown, an information message within two seconds of an
  abandoned call: they are in the records of calls, for an audit.
- Germany: the proof must be kept for five years from every use, for an audit.
- France: holidays of Alsace-Moselle and of the overseas departments come as declared holidays.
- Italy: that numbers outside of public directories need consent in the first place; that the
  register is consulted before each campaign, for an audit.
- Spain: holidays of regions and towns, and days that move from a Sunday, come as declared holidays;
  other bases of GDPR art. 6; business subscribers.
- Australia: hours of research calls; the return number that must work for 30 days.
- India: partial preferences are read as full ones; number series; complaints and their deadlines.
- Where the sector of a call is stated nowhere, it may be a banned or restricted one: a British
  marketing call without consent is denied, a French one lacks a fact. State it, or declare the
  campaign's sectors.
- What is not stated about the calling number, ring times, registrations and the recording notice is
  not guessed: those rows then do not apply, unless they say otherwise.
"""
