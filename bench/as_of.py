"""How long it takes to ask about one number at a past moment, among many facts.

Real facts of a few hundred numbers over a year, made by the product's own steps, are multiplied in
the store: each copy has another subject, in the fact's bytes too. So the store holds as many facts
as are asked for, each readable, and the numbers that are asked about lie anywhere among them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from bench.stand import store_front
from consent.contracts import data_path
from consent.fact_columns import columns_of_facts
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent_ledger.api.models import CallQuestion
from consent_ledger.reconstruction import Moment, Reconstructor
from projections.clickhouse import Store, StoreParameters
from projections.migration import load_migrations, migrate
from projections.past import Past
from tests.reconstruction.world import HISTORY_KEY, NONCE, World, facts_by_number, number_of

STORIES: Final = 400
FACTS_EACH: Final = 10
ASKED: Final = 500
WARM: Final = 20
_CALL: Final = CallQuestion(
    seller_id="acme",
    purpose="MARKETING",
    call_mode="LIVE",
    dial_mode="MANUAL",
    sector="OTHER",
    message_class="ADVERTISING",
)


def measure(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """The row of the bench: ms for a state with the answer to a call, and for the state alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with store_front(folder) as url:
        store = Store.connect(StoreParameters(url=url, query_timeout_ms=1_200_000))
        migrate(store, load_migrations(files("projections") / "migrations"))
        world = _stories(store, seed)
        subjects = max(ASKED, count // FACTS_EACH)
        _multiply(store, subjects)
        facts, parts = store.query_rows(
            "SELECT sum(rows), count() FROM system.parts "
            "WHERE table = 'facts' AND database = currentDatabase() AND active"
        )[0]
        rulebook = Rulebook.load(
            {path.name: path.read_text() for path in data_path("rules").glob("*.yaml")}
        )
        made = Reconstructor(Past(store), HISTORY_KEY, rulebook)
        draw = random.Random(seed)

        def moment() -> tuple[str, Moment]:
            at = draw.randrange(world.end_us - 300 * 86_400_000_000, world.end_us)
            return number_of(draw.randrange(ASKED)), Moment(at, draw.randrange(at, world.end_us))

        decided = _times(lambda: made.at_moment(*moment(), _CALL))
        state = _times(lambda: made.at_moment(*moment()))
        read = _times(lambda: Past(store).facts_of(subject_token(HISTORY_KEY, moment()[0])))
        store.close()
    return {
        "name": "as_of_ms",
        "unit": "ms",
        "p50": _at(decided, 0.5),
        "p99": _at(decided, 0.99),
        "state_p50": _at(state, 0.5),
        "state_p99": _at(state, 0.99),
        "facts_p50": _at(read, 0.5),
        "samples": len(decided),
        "facts": facts,
        "parts": parts,
    }


def _stories(store: Store, seed: int) -> World:
    """Facts of a few numbers, in a table of their own."""
    world = World(
        facts=STORIES * FACTS_EACH,
        numbers=STORIES,
        studied=STORIES,
        seed=seed,
        days=365,
        parties=False,
    )
    store.command("CREATE TABLE stories AS facts ENGINE = Memory")
    store.command("ALTER TABLE stories ADD COLUMN story UInt32, ADD COLUMN place UInt32")
    facts, story, place = [], [], []
    for index, found in facts_by_number(world).items():
        token = subject_token(HISTORY_KEY, number_of(index))
        told = [fact for fact in found if token in fact]
        facts += told
        story += [index] * len(told)
        place += [fact.index(token) for fact in told]
    rows = columns_of_facts(facts, NONCE).to_arrow()
    rows = rows.append_column("story", pa.array(story, pa.uint32()))
    rows = rows.append_column("place", pa.array(place, pa.uint32()))
    store.insert_arrow("stories", rows, "stories", {"insert_deduplicate": 0})
    return world


def _multiply(store: Store, subjects: int) -> None:
    """A copy of a story for each subject, month by month, each month in one part in the end."""
    tokens = ",".join(
        f"'{subject_token(HISTORY_KEY, number_of(index)).hex()}'" for index in range(ASKED)
    )
    months = store.query_rows("SELECT DISTINCT toYYYYMM(recorded_at) AS m FROM stories ORDER BY m")
    for (month,) in months:
        store.command(
            f"""
            INSERT INTO facts
            SELECT s.* EXCEPT (story, place) REPLACE (
                concat(
                    substring(s.fact, 1, s.place),
                    n.token,
                    substring(s.fact, s.place + 17)
                ) AS fact,
                toFixedString(n.token, 16) AS subject
            )
            FROM (
                SELECT number,
                    if(number < {ASKED}, unhex([{tokens}][number + 1]), MD5(toString(number)))
                        AS token
                FROM numbers({subjects})
            ) AS n
            INNER JOIN (SELECT * FROM stories WHERE toYYYYMM(recorded_at) = {month}) AS s
            ON n.number % {STORIES} = s.story
            """,
            {"max_partitions_per_insert_block": 0, "async_insert": 0, "insert_deduplicate": 0},
        )
        store.command(f"OPTIMIZE TABLE facts PARTITION {month} FINAL")


def _times(ask: Callable[[], object]) -> list[float]:
    for _ in range(WARM):
        ask()
    taken = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - begun) * 1_000)
    return taken


def _at(times: list[float], share: float) -> float:
    return round(statistics.quantiles(times, n=1_000)[round(share * 1_000) - 1], 2)
