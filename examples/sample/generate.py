"""Write the sample as JSON lines: `python examples/sample/generate.py > events.jsonl`.

The events themselves are made by `consent_ledger.sample`, which `consent-ledger demo` uses too.
"""

from __future__ import annotations

import argparse
import json
import sys

from consent_ledger.sample import PEOPLE, SEED, make_sample


def main() -> None:
    """Print one document per line; equal arguments give equal bytes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--people", type=int, default=PEOPLE, help="at most 800")
    given = arguments.parse_args()
    for document in make_sample(given.seed, given.people).documents:
        sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
