"""How long `coordinator --help` takes, as a share of `import web3`.

    scripts/bench start

Prints JSON: medians of CPU seconds of whole processes, taken in turns, and their ratio, which is to
stay below a third.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys

RUNS = 15
HELP = [sys.executable, "-m", "coordinator", "--help"]
WEB3 = [sys.executable, "-c", "import web3"]


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    pairs = [(cpu_seconds(HELP), cpu_seconds(WEB3)) for _ in range(RUNS)]
    helps, imports = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = helps / imports
    print(json.dumps({"help": helps, "import_web3": imports, "ratio": round(ratio, 3)}, indent=2))
    return 0 if ratio < 1 / 3 else 1


if __name__ == "__main__":
    sys.exit(main())
