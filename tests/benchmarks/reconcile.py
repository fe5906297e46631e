"""``scripts/bench reconcile``: comparing books with the chain, beside downloading the same logs.

A treasury has funded so many escrows, a hundred in a block. Its books are rebuilt from the chain,
compared with all of it, and brought up to date after a few blocks more, each in a process of its
own; the bare loop downloads what the books are made of and does nothing with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.charts import Chart
from tests.benchmarks.console import Tell, elapsed, positive, show_ratios, show_rows
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.floor import fill
from tests.benchmarks.machine import described
from tests.benchmarks.proxy import CountingProxy
from tests.benchmarks.scene import for_child, open_scene

ESCROWS: Final = 100_000
QUICK_ESCROWS: Final = 10_000
_EACH_BLOCK: Final = 100
# What an incremental one has to read, in blocks.
_NEW_BLOCKS: Final = 5
_ROOT: Final = Path(__file__).resolve().parents[2]
_READINGS: Final = ("bare", "rebuild", "full")

TARGETS: Final[Mapping[str, Target]] = {
    "full_of_bare": Target(0.5, least=True),
    "memory_mb": Target(300),
    "new_blocks_over_incremental_blocks": Target(1, least=True),
}
_MEANINGS: Final = {
    "full_of_bare": "time of the bare loop / of comparing everything",
    "rebuild_of_bare": "time of the bare loop / of rebuilding the books",
    "memory_mb": "MB over idle of comparing everything, at its most",
    "incremental_over_full": "time after a few blocks more / of comparing everything",
    "incremental_calls_over_full": "JSON-RPC calls after a few blocks more / of everything",
    "new_blocks_over_incremental_blocks": "new blocks / blocks read when it is incremental",
    "calls_per_escrow": "JSON-RPC calls an escrow of comparing everything",
}


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="10,000 escrows")
    parser.add_argument("--escrows", type=positive(int), metavar="N", help="how many")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Make the chain, then read it in every way."""
    count = arguments.escrows or (QUICK_ESCROWS if arguments.quick else ESCROWS)
    with open_scene() as scene, CountingProxy(scene.url) as proxy:
        (treasury,) = scene.treasuries([f"sqlite:///{scene.folder}/reconcile.db"])
        environment = for_child(scene.environment(treasury, url=proxy.url, public=False))
        scene.chain.hold_blocks()
        began = time.monotonic()
        fill(scene, treasury, count, each_block=_EACH_BLOCK)
        tell(f"{count:,} escrows funded in {time.monotonic() - began:.1f} s")
        found = {}
        for what in _READINGS:
            found[what] = _read(what, environment, scene.folder, proxy)
            tell(f"{what}: {found[what]['seconds']:.2f} s, {found[what]['calls']:,} calls")
        fill(scene, treasury, _NEW_BLOCKS, each_block=1)
        found["incremental"] = _read("incremental", environment, scene.folder, proxy)
        tell(f"incremental: {found['incremental']['seconds']:.2f} s")
    return summary_of(count, found)


def summary_of(count: int, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is printed."""
    bare, full, more = found["bare"], found["full"], found["incremental"]
    read = more["to_block"] - more["from_block"] + 1
    ratios = {
        "full_of_bare": round(bare["seconds"] / full["seconds"], 3),
        "rebuild_of_bare": round(bare["seconds"] / found["rebuild"]["seconds"], 3),
        "memory_mb": full["memory_mb"],
        "incremental_over_full": round(more["seconds"] / full["seconds"], 3),
        "incremental_calls_over_full": round(more["calls"] / full["calls"], 3),
        "new_blocks_over_incremental_blocks": round(_NEW_BLOCKS / read, 3),
        "calls_per_escrow": round(full["calls"] / count, 3),
    }
    return {
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "escrows": count,
        "readings": found,
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print each reading, and the ratios."""
    names = ("seconds", "calls", "requests", "memory_mb")
    rows = [
        [what, *(f"{found[name]:,}" for name in names)]
        for what, found in summary["readings"].items()
    ]
    show_rows(f"{summary['escrows']:,} escrows", ["reading", *names], rows)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Seconds of each reading."""
    seconds = {what: found["seconds"] for what, found in summary["readings"].items()}
    title = f"Seconds of reading {summary['escrows']:,} escrows"
    return Chart(title, {"seconds": seconds}, logarithmic=True)


def _read(
    what: str, environment: Mapping[str, str], folder: Path, proxy: CountingProxy
) -> dict[str, Any]:
    before = proxy.counts()
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.reconciling", what],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told | (proxy.counts() - before).as_dict()
