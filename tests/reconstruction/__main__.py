"""`python -m tests.reconstruction`: a history of any size, its last line is JSON."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.decisions import packaged_rulebook
from tests.reconstruction.deciding import Decider
from tests.reconstruction.run import Outcome, compare, reconstructor, replay_all, store_in
from tests.reconstruction.world import World


def main() -> int:
    """Make a history, compare, tell; 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.reconstruction", description=__doc__)
    parser.add_argument("--facts", type=int, default=1_000_000)
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decided", type=float, default=0.05, help="of the last day's facts")
    options = parser.parse_args()
    rulebook = packaged_rulebook()
    world = World(
        facts=options.facts,
        numbers=max(300, options.facts // 20),
        studied=max(150, options.facts // 600),
        seed=options.seed,
        decide=Decider(rulebook, random.Random(f"decisions/{options.seed}")),
        decided=options.decided,
    )
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="ledger-past-") as folder, store_in(Path(folder)) as db:
        begun = time.monotonic()
        world.build(db, lambda done: _tell("facts", done, options.facts))
        built_s = time.monotonic() - begun
        made = reconstructor(db, rulebook)
        begun = time.monotonic()
        compare(world, made, options.cases, options.seed, _tell, outcome)
        cases_s = time.monotonic() - begun
        begun = time.monotonic()
        replay_all(world, made, _tell, outcome)
        replayed_s = time.monotonic() - begun
    for example in outcome.examples:
        print(example)
    result = {
        "facts": options.facts,
        "late": world.late,
        "cases": outcome.cases,
        "cases_with_late_facts": outcome.late_seen,
        "states_differ": outcome.states_differ,
        "decisions_compared": outcome.decisions_compared,
        "decisions_differ": outcome.decisions_differ,
        "replayed": outcome.replayed,
        "replayed_differ": outcome.replayed_differ,
        "built_s": round(built_s, 1),
        "cases_s": round(cases_s, 1),
        "replayed_s": round(replayed_s, 1),
        "seed": options.seed,
    }
    print(json.dumps(result))
    return int(bool(outcome.states_differ + outcome.decisions_differ + outcome.replayed_differ))


def _tell(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total or done % max(1, total // 10) == 0:
        print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
