"""Change every parameter of the rulebook, one at a time, and tell which change nobody notices.

`python -m tests.mutation --seed 1`: one process, a few minutes. The last line is JSON. Exit 1 if a
change survives, or if a rule file can be left out without a failing case.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from tests.decisions import packaged_files
from tests.mutation.mutants import Mutant
from tests.mutation.workshop import Workshop
from tests.rule_cases import worked_cases


def main() -> int:
    """Run and report."""
    options = _options()
    begun = time.monotonic()
    workshop = Workshop(packaged_files(), worked_cases())
    print(f"{len(workshop.heard)} cases decide as stated", flush=True)
    chosen = [
        mutant
        for mutant in workshop.mutants(options.seed, options.scope)
        if not options.file or mutant.file in options.file
    ][:: options.every]
    counts: dict[str, Counter[str]] = {}
    for done, mutant in enumerate(chosen, 1):
        _progress(done, len(chosen))
        fate = _fate(workshop, mutant)
        counts.setdefault(mutant.file, Counter())[fate] += 1
        if fate == "survived":
            print(f"survived: {mutant}", flush=True)
    files = [name for name in sorted(workshop.files) if not options.file or name in options.file]
    left_out = {name: workshop.without_file(name) for name in files}
    for name, counted in sorted(counts.items()):
        print(f"{name}: {sum(counted.values())} changes, {dict(sorted(counted.items()))}")
    for name, killer in left_out.items():
        print(f"without {name}: {killer or 'NOBODY NOTICES'}"[:160])
    total = sum(counts.values(), Counter())
    summary = {
        "seed": options.seed,
        "cases": len(workshop.heard),
        "changes": len(chosen),
        **{fate: total[fate] for fate in ("noticed", "refused", "equivalent", "survived")},
        "files_left_out": len(left_out),
        "files_missed": sum(killer is None for killer in left_out.values()),
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(summary))
    return 1 if total["survived"] or None in left_out.values() else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which words replace which")
    parser.add_argument("--file", action="append", help="only rows of this rule file; may repeat")
    parser.add_argument("--scope", action="store_true", help="change `applies_when` as well")
    parser.add_argument("--every", type=int, default=1, help="try only every so many-th change")
    return parser.parse_args()


def _fate(workshop: Workshop, mutant: Mutant) -> str:
    if mutant.equivalent:
        return "equivalent"
    killer = workshop.killed_by(mutant)
    if killer is None:
        return "survived"
    return "refused" if killer.startswith("refused:") else "noticed"


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == of):
        print(f"\r{done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
