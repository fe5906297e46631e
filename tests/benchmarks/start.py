"""``scripts/bench start``: the time of `coordinator --help` as a share of that of `import web3`.

Medians of CPU seconds of whole processes, taken in turns; their ratio is to stay below a third.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from tests.benchmarks.console import Tell, elapsed, show_ratios
from tests.benchmarks.figures import Target
from tests.benchmarks.machine import described

RUNS: Final = 15
HELP: Final = [sys.executable, "-m", "coordinator", "--help"]
WEB3: Final = [sys.executable, "-c", "import web3"]
TARGET: Final = Target(0.333)
_MEANINGS: Final = {
    "help_over_import_web3": "processor time of `coordinator --help` / `import web3`"
}


def parse(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments of its own."""


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Start both in turns."""
    pairs = [(cpu_seconds(HELP), cpu_seconds(WEB3)) for _ in range(RUNS)]
    helps, imports = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = round(helps / imports, 3)
    judged = {"target": str(TARGET), "met": TARGET.met(ratio)}
    return {
        "ratios": {"help_over_import_web3": ratio},
        "targets": {"help_over_import_web3": judged},
        "help": helps,
        "import_web3": imports,
        "ratio": ratio,
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print the ratio."""
    show_ratios(summary, _MEANINGS)


def code(summary: Mapping[str, Any]) -> int:
    """1 when it starts too slowly."""
    return 0 if summary["targets"]["help_over_import_web3"]["met"] else 1


def cpu_seconds(command: list[str]) -> float:
    """What the processor spends on the command until it ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
