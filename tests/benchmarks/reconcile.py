"""``scripts/bench reconcile``: comparing books with the chain, beside downloading the same logs.

A treasury has funded so many escrows, a hundred in a block. Its books are rebuilt from the chain,
compared with all of it, and brought up to date after a few blocks more, each in a process of its
own; the bare loop downloads what the books are made of and does nothing with it. More escrows than
a quick run has are served by a node of a made chain: a local one would need more memory than there
is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.charts import Chart
from tests.benchmarks.console import Tell, elapsed, positive, show_ratios, show_rows
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.floor import fill
from tests.benchmarks.long_node import LongNode, seed_of
from tests.benchmarks.machine import described
from tests.benchmarks.proxy import CountingProxy
from tests.benchmarks.scene import Scene, Treasury, for_child, open_scene

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
    "processor_full_of_bare": "the same in the readers' processor time",
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
    parser.add_argument("--made", action="store_true", help="of a made chain, however few")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Make the chain, then read it in every way."""
    count = arguments.escrows or (QUICK_ESCROWS if arguments.quick else ESCROWS)
    with open_scene() as scene:
        (treasury,) = scene.treasuries([f"sqlite:///{scene.folder}/reconcile.db"])
        settings = scene.environment(treasury, url="", public=False)
        scene.chain.hold_blocks()
        began = time.monotonic()
        made = arguments.made or count > QUICK_ESCROWS
        chain = _made if made else _filled
        with chain(scene, treasury, count) as (url, grow), CountingProxy(url) as proxy:
            tell(f"{count:,} escrows in {time.monotonic() - began:.1f} s")
            environment = for_child(settings | {"COORDINATOR_RPC_URL": proxy.url})
            found = {}
            for what in _READINGS:
                found[what] = _read(what, environment, scene.folder, proxy)
                tell(f"{what}: {found[what]['seconds']:.2f} s, {found[what]['calls']:,} calls")
            grow()
            found["incremental"] = _read("incremental", environment, scene.folder, proxy)
            tell(f"incremental: {found['incremental']['seconds']:.2f} s")
    return summary_of(count, found)


@contextmanager
def _filled(
    scene: Scene, treasury: Treasury, count: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The scene's own chain with so many escrows, and what adds a few blocks to it."""
    fill(scene, treasury, count, each_block=_EACH_BLOCK)
    yield scene.url, partial(fill, scene, treasury, _NEW_BLOCKS, each_block=1)


@contextmanager
def _made(scene: Scene, treasury: Treasury, count: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """As ``_filled``, of a chain that is made after the first escrow."""
    fill(scene, treasury, 1, each_block=1)
    seed = seed_of(scene, treasury, count - 1, held_back=_NEW_BLOCKS)
    with LongNode(scene.url, seed, scene.folder) as node:
        yield node.url, node.grow


def summary_of(count: int, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is printed."""
    bare, full, more = found["bare"], found["full"], found["incremental"]
    read = more["to_block"] - more["from_block"] + 1
    ratios = {
        "full_of_bare": round(bare["seconds"] / full["seconds"], 3),
        "processor_full_of_bare": round(bare["processor"] / full["processor"], 3),
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
    names = ("seconds", "processor", "calls", "requests", "memory_mb")
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
