"""``scripts/bench decisions``: how many decisions a second become durable, and what they cost."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.charts import Chart
from tests.benchmarks.console import FOLDER, Tell, elapsed, kinds, positive
from tests.benchmarks.figures import judged, machine_medians, medians, ratios
from tests.benchmarks.machine import described
from tests.benchmarks.report import show
from tests.benchmarks.rounds import Plan, run, run_peer

__all__ = ["measure", "parse", "plot", "show"]

HISTORIES: Final = (0, 100_000, 1_000_000)
CALLERS: Final = (1, 8, 32)
# What the ratios are of: the time is better spent on these.
QUICK_CALLERS: Final = (1, 32)
# Of what a quick run may take from its start to its last line, the rest is for ending.
QUICK_SECONDS: Final = 40.0
# Of the peer, whose decisions take longer the more payments it has.
PEER_HISTORIES: Final = (0, 10_000, 100_000)
MEMORY_DECISIONS: Final = 2_000


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="SQLite only, in under 50 s")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the databases stand")
    full = parser.add_argument_group("without --quick")
    full.add_argument("--histories", type=_counts, default=HISTORIES, metavar="0,N,…")
    full.add_argument("--databases", type=kinds, default=["sqlite", "postgresql"], metavar="NAME,…")
    full.add_argument("--rounds", type=positive(int), default=7, metavar="N")
    full.add_argument("--seconds", type=positive(float), default=2.0, help="of each spell")
    full.add_argument(
        "--memory-decisions", type=positive(int), default=MEMORY_DECISIONS, metavar="N"
    )


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Measure what the arguments ask for; a full measurement puts the peer beside it."""
    quick = arguments.quick
    memory = 0 if quick else arguments.memory_decisions
    measured = run(plan_of(arguments), tell, memory_decisions=memory)
    peer = None
    if not quick:
        tell("the peer")
        longest = max(measured.histories)
        payments = sorted({min(count, longest) for count in PEER_HISTORIES})
        peer = run_peer(arguments.folder, payments, arguments.seconds)
    return summary_of(measured, peer)


def summary_of(measured: Any, peer: dict[str, Any] | None) -> dict[str, Any]:
    """What is printed: of several databases the first is the one of ``ratios``."""
    found = list(dict.fromkeys(case.database for case in measured.rounds[0].samples))
    by_database = {kind: ratios(measured.rounds, kind) for kind in found}
    for kind, more in measured.memory_mb.items():
        by_database[kind]["memory_mb"] = more
    return {
        "ratios": by_database[found[0]],
        "targets": {kind: judged(of_kind) for kind, of_kind in by_database.items()},
        "ratios_by_database": by_database,
        "history": max(measured.histories),
        "histories": measured.histories,
        "limits_touched": measured.limits_touched,
        **machine_medians(measured.rounds),
        "decisions_per_second": medians(measured.rounds, "per_second"),
        "p50_ms": medians(measured.rounds, "p50_ms"),
        "rounds": len(measured.rounds),
        "seconds": round(elapsed(), 1),
        "machine": described(),
        "peer": peer,
    }


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for."""
    if arguments.quick:
        # Importing has taken some of it already.
        left = QUICK_SECONDS - elapsed()
        return Plan(
            folder=arguments.folder,
            databases=["sqlite"],
            histories=[0, HISTORIES[-1]],
            callers=QUICK_CALLERS,
            rounds=5,
            seconds=arguments.seconds,
            seconds_in_all=left,
        )
    return Plan(
        folder=arguments.folder,
        databases=arguments.databases,
        histories=arguments.histories,
        callers=CALLERS,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )


def plot(summary: Mapping[str, Any]) -> Chart:
    """Decisions a second by callers, after none and after the most purchases."""
    values = {
        f"{kind} after {int(history):,}": {f"{n} at once": rate for n, rate in rates.items()}
        for kind, histories in summary["decisions_per_second"].items()
        for history, rates in histories.items()
        if int(history) in (0, summary["history"])
    }
    return Chart("Durable decisions a second", values)


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError("histories are numbers of purchases, such as 0,1000")
    found = sorted({int(part) for part in parts})
    if found[0] != 0 or len(found) < 2:
        raise argparse.ArgumentTypeError("histories are 0 and at least one more")
    return found
