"""Runs of many seeds: ``scripts/simulate --seeds 1..1000 --steps 500``."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from functools import partial
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.planted import BUGS, OF_PAYMENTS, planted
from tests.simulation.simulation import Outcome, run

# Of each run SQLAlchemy keeps some megabytes of compiled statements.
_SEEDS_A_PROCESS: Final = 20
# In one run of so many agents pay for HTTP requests, too.
_PAYING_OF = 3


def main() -> int:
    """0 when every invariant held in every run, 1 when one broke, 2 for bad arguments."""
    arguments = _arguments()
    first, last = arguments.seeds
    seeds = range(first, last + 1)
    started = time.monotonic()
    faults, purchases, broken = Counter[str](), Counter[str](), []
    work = partial(_one, steps=arguments.steps, bug=arguments.plant)
    console = Console(stderr=True)
    with (
        multiprocessing.get_context("fork").Pool(
            arguments.jobs, maxtasksperchild=_SEEDS_A_PROCESS
        ) as pool,
        Progress(
            TextColumn("simulating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as progress,
    ):
        bar = progress.add_task("", total=len(seeds))
        for seed, outcome in pool.imap_unordered(work, seeds):
            progress.advance(bar)
            if isinstance(outcome, Outcome):
                faults += outcome.faults
                purchases += outcome.purchases
                continue
            broken.append({"seed": seed, "broken": outcome})
            progress.console.print(f"seed {seed}: {outcome}", markup=False)
    summary: dict[str, Any] = {
        "seeds": len(seeds),
        "steps": arguments.steps,
        "seconds": round(time.monotonic() - started, 1),
        "faults": dict(faults.most_common()),
        "purchases": dict(purchases.most_common()),
        "broken": broken,
    }
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        _tell(summary)
    return 1 if broken else 0


def _one(seed: int, *, steps: int, bug: str | None) -> tuple[int, Outcome | str]:
    logging.disable(logging.CRITICAL)
    try:
        if bug is None:
            return seed, run(seed, steps, pays=seed % _PAYING_OF == 0)
        with planted(bug):
            return seed, run(seed, steps, pays=bug in OF_PAYMENTS)
    except Exception as fault:
        notes = "\n".join(getattr(fault, "__notes__", ()))
        where = "" if notes else traceback.format_exc()
        return seed, f"{fault}\n{notes}{where}"


def _tell(summary: dict[str, Any]) -> None:
    console = Console()
    table = Table(title="Faults that struck", title_justify="left")
    table.add_column("kind")
    table.add_column("times", justify="right")
    for kind, count in summary["faults"].items():
        table.add_row(kind, f"{count:,}")
    console.print(table)
    ended = ", ".join(f"{count:,} {status}" for status, count in summary["purchases"].items())
    console.print(f"Purchases: {ended}")
    total = sum(summary["faults"].values())
    verdict = f"{len(summary['broken'])} broken" if summary["broken"] else "every invariant held"
    console.print(
        f"{summary['seeds']:,} runs of {summary['steps']:,} steps, {total:,} faults in"
        f" {summary['seconds']:,.0f} s: {verdict}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Run seeded simulations of the whole coordinator with faults, and check every"
        " invariant after every step. The same seed gives the same run.",
    )
    parser.add_argument("--seeds", type=_range, default=(1, 20), metavar="FIRST..LAST")
    parser.add_argument("--steps", type=_count, default=500, metavar="N")
    parser.add_argument("--jobs", type=_count, default=multiprocessing.cpu_count(), metavar="N")
    parser.add_argument("--plant", choices=sorted(BUGS), help="plant this bug: it must be found")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    return parser.parse_args()


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not first.isdecimal() or (dots and not last.isdecimal()):
        raise argparse.ArgumentTypeError("seeds are FIRST..LAST, such as 1..1000")
    found = int(first), int(last) if dots else int(first)
    if found[1] < found[0]:
        raise argparse.ArgumentTypeError("the last seed is before the first")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
