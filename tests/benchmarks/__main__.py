"""Benchmarks: ``scripts/bench decisions`` and ``scripts/bench start``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from tests.benchmarks.decisions import Plan

HISTORIES = (0, 100_000, 1_000_000)
CALLERS = (1, 8, 32)
# What the ratios are of: the time is better spent on these.
QUICK_CALLERS = (1, 32)
# Of what a quick run may take from its start to its last line, the rest is for ending.
QUICK_SECONDS = 40.0
# Of the peer, whose decisions take longer the more payments it has.
PEER_HISTORIES = (0, 10_000, 100_000)
MEMORY_DECISIONS = 2_000
_ROOT = Path(__file__).resolve().parents[2]
_STARTED = time.monotonic()


def main(given: Sequence[str] | None = None) -> int:
    """0 when it was measured, whatever came of it; 2 for bad arguments."""
    arguments = parse(given)
    if arguments.what == "start":
        from tests.benchmarks import start

        return start.main()
    summary = _decisions(arguments)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        from tests.benchmarks.report import show

        show(summary)
    return 0


def _decisions(arguments: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks.decisions import measure, measure_peer

    console = Console(stderr=True)
    quick = arguments.quick

    def tell(text: str) -> None:
        elapsed = time.monotonic() - _STARTED
        console.print(f"{elapsed:6.1f} s  {text}", highlight=False, markup=False)

    measured = measure(
        plan_of(arguments), tell, memory_decisions=0 if quick else arguments.memory_decisions
    )
    peer = None
    if not quick:
        tell("the peer")
        longest = max(measured.histories)
        payments = sorted({min(count, longest) for count in PEER_HISTORIES})
        peer = measure_peer(arguments.folder, payments, arguments.seconds)
    return summary_of(measured, peer)


def summary_of(measured: Any, peer: dict[str, Any] | None) -> dict[str, Any]:
    """What is printed: of several databases the first is the one of ``ratios``."""
    from tests.benchmarks.figures import judged, machine_medians, medians, ratios
    from tests.benchmarks.machine import described

    kinds = list(dict.fromkeys(case.database for case in measured.rounds[0].samples))
    by_database = {kind: ratios(measured.rounds, kind) for kind in kinds}
    for kind, more in measured.memory_mb.items():
        by_database[kind]["memory_mb"] = more
    return {
        "ratios": by_database[kinds[0]],
        "targets": {kind: judged(found) for kind, found in by_database.items()},
        "ratios_by_database": by_database,
        "history": max(measured.histories),
        "histories": measured.histories,
        "limits_touched": measured.limits_touched,
        **machine_medians(measured.rounds),
        "decisions_per_second": medians(measured.rounds, "per_second"),
        "p50_ms": medians(measured.rounds, "p50_ms"),
        "rounds": len(measured.rounds),
        "seconds": round(time.monotonic() - _STARTED, 1),
        "machine": described(),
        "peer": peer,
    }


def plan_of(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for."""
    from tests.benchmarks.decisions import Plan

    if arguments.quick:
        # Importing has taken some of it already.
        left = QUICK_SECONDS - (time.monotonic() - _STARTED)
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


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; those that make no sense end the process with 2."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=_DESCRIPTION)
    commands = parser.add_subparsers(dest="what", required=True, metavar="decisions|start")
    decisions = commands.add_parser(
        "decisions", help="durable decisions a second, and their ratios"
    )
    decisions.add_argument("--quick", action="store_true", help="SQLite only, in under 50 s")
    decisions.add_argument("--json", action="store_true", help="one JSON object on stdout")
    decisions.add_argument(
        "--folder", type=Path, default=_ROOT / ".local", help="where the databases stand"
    )
    full = decisions.add_argument_group("without --quick")
    full.add_argument("--histories", type=_counts, default=HISTORIES, metavar="0,N,…")
    full.add_argument(
        "--databases", type=_kinds, default=["sqlite", "postgresql"], metavar="NAME,…"
    )
    full.add_argument("--rounds", type=_positive(int), default=7, metavar="N")
    full.add_argument("--seconds", type=_positive(float), default=2.0, help="of each spell")
    full.add_argument(
        "--memory-decisions", type=_positive(int), default=MEMORY_DECISIONS, metavar="N"
    )
    commands.add_parser("start", help="how long the command line takes to start")
    return parser.parse_args(given)


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError("histories are numbers of purchases, such as 0,1000")
    found = sorted({int(part) for part in parts})
    if found[0] != 0 or len(found) < 2:
        raise argparse.ArgumentTypeError("histories are 0 and at least one more")
    return found


def _kinds(text: str) -> list[str]:
    found = list(dict.fromkeys(text.split(",")))
    if not set(found) <= {"sqlite", "postgresql"}:
        raise argparse.ArgumentTypeError("databases are sqlite, postgresql or both")
    return found


def _positive(of: type[int] | type[float]) -> Any:
    def number(text: str) -> float:
        try:
            found = of(text)
        except ValueError:
            found = of(0)
        if not 0 < found < 1_000_000:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return found

    return number


_DESCRIPTION = """Measure how many decisions a second become durable, and what they cost beside
what the machine does by itself. Figures of different machines, or of different runs of one, are no
comparison; the ratios within a run are."""

if __name__ == "__main__":
    sys.exit(main())
