"""How many decisions a second, and whether the past slows them down.

    .venv/bin/python tests/benchmarks/bench_decisions.py --few 1000 --many 100000

Prints JSON. Times are of one process on one SQLite file; the file stands in ``--folder``, because
each decision waits for its disk. The past is copied from one purchase that was lived through.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coordinator import Coordinator, Status
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import ask, open_coordinator, policy
from tests.integration.ledger.history import copy_lives, live_one

BATCH = 50


def with_past(path: Path, count: int) -> Coordinator:
    """A coordinator whose database holds ``count`` purchases that were settled."""
    coordinator = open_coordinator(path, policy({"organisation": {"total_limit": "unlimited"}}))
    copy_lives(path, live_one(coordinator), count=count - 1)
    ChainFeed(coordinator).observe("1000000")
    seconds_of_batch(coordinator)
    return coordinator


def seconds_of_batch(coordinator: Coordinator) -> float:
    """How long ``BATCH`` decisions take; what they bought is cancelled outside that time."""
    agent = coordinator.agent("ada")
    started = time.perf_counter()
    purchases = [ask(agent) for _ in range(BATCH)]
    seconds = time.perf_counter() - started
    for purchase in purchases:
        assert purchase.status is Status.APPROVED
        coordinator.cancel(purchase.id, by="ada")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--few", type=int, default=1_000, help="purchases of the shorter past")
    parser.add_argument("--many", type=int, default=20_000, help="purchases of the longer past")
    parser.add_argument("--batches", type=int, default=20, help=f"of {BATCH} decisions, for each")
    parser.add_argument("--folder", type=Path, help="where the databases stand (default: temp)")
    terms = parser.parse_args()
    if not 1 <= terms.few < terms.many or terms.batches < 1:
        parser.error("--few must be at least 1 and less than --many, --batches at least 1")
    with tempfile.TemporaryDirectory(dir=terms.folder) as folder:
        few = with_past(Path(folder, "few.db"), terms.few)
        many = with_past(Path(folder, "many.db"), terms.many)
        # In turns: whatever else the machine does meets both alike.
        pairs = [(seconds_of_batch(few), seconds_of_batch(many)) for _ in range(terms.batches)]
        for coordinator in (few, many):
            coordinator.close()
    found = {
        "decisions_timed": 2 * BATCH * terms.batches,
        f"per_second_after_{terms.few}": BATCH / statistics.median(pair[0] for pair in pairs),
        f"per_second_after_{terms.many}": BATCH / statistics.median(pair[1] for pair in pairs),
        "time_ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
    }
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
