"""``python -m tests.benchmarks.resident URL DECISIONS``: MB in memory after so many decisions."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from tests.benchmarks.course import AGENTS, PURCHASES_PER_TASK, buy, course


def main() -> None:
    url, decisions = sys.argv[1], int(sys.argv[2])
    with course(url) as coordinator:
        for number in range(decisions):
            name = f"memory-{number // PURCHASES_PER_TASK}"
            buy(coordinator.agent(f"a{number % AGENTS}"), name, name)
        print(_resident_mb())


def _resident_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    # Elsewhere the most that it ever held, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024


if __name__ == "__main__":
    main()
