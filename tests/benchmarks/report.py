"""The summary as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_MEANING: Final = {
    "decisions_per_fdatasync": "decisions a second of most callers / syncs a second",
    "one_caller_per_bare_insert": "time of a decision of one caller / of a bare insert",
    "p50_full_over_empty": "time of a decision after the most purchases / after none",
    "p50_full_over_empty_at_most_callers": "the same with most callers",
    "memory_mb": "MB more in memory after the most purchases than after none",
}


def show(summary: Mapping[str, Any]) -> None:
    """Print what was measured, with each target beside its ratio."""
    console = Console()
    console.print(_measured(summary))
    console.print(_ratios(summary))
    if summary["peer"] is None:
        console.print("No peer: scripts/setup --agentpay, which the full measurement calls.")
    else:
        console.print(_peer(summary["peer"]))
        console.print(summary["peer"]["without"], soft_wrap=True, highlight=False)
    machine = summary["machine"]
    inserts = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in summary["bare_insert_ms"].items())
    console.print(
        f"{summary['fdatasync_per_second']:,.0f} syncs a second; a bare insert: {inserts};"
        f" {machine['cores']} cores; medians of {summary['rounds']} rounds,"
        f" {summary['limits_touched']} limits touched by each purchase;"
        f" {summary['seconds']:,.0f} s",
        highlight=False,
    )


def _measured(summary: Mapping[str, Any]) -> Table:
    per_second, p50 = summary["decisions_per_second"], summary["p50_ms"]
    table = Table(title="Durable decisions a second (median ms of one)", title_justify="left")
    table.add_column("database")
    table.add_column("earlier purchases", justify="right")
    callers = list(next(iter(next(iter(per_second.values())).values())))
    for number in callers:
        table.add_column(f"{number} caller{'s' if number != '1' else ''}", justify="right")
    for kind, histories in per_second.items():
        for history in sorted(histories, key=int):
            cells = [f"{histories[history][n]:,.0f} ({p50[kind][history][n]:.2f})" for n in callers]
            table.add_row(kind, f"{int(history):,}", *cells)
    return table


def _ratios(summary: Mapping[str, Any]) -> Table:
    table = Table(title="Ratios within this run", title_justify="left")
    table.add_column("ratio")
    for kind in summary["ratios_by_database"]:
        table.add_column(kind, justify="right")
    table.add_column("target")
    for name, meaning in _MEANING.items():
        cells, target = [], ""
        for kind, found in summary["ratios_by_database"].items():
            if name in found:
                judged = summary["targets"][kind][name]
                cells.append(f"{found[name]:.2f} {'met' if judged['met'] else 'not met'}")
                target = judged["target"]
        if cells:
            table.add_row(meaning, *cells, target)
    return table


def _peer(peer: Mapping[str, Any]) -> Table:
    table = Table(title=f"{peer['name']} on SQLite, decisions a second", title_justify="left")
    table.add_column("earlier payments", justify="right")
    callers = list(next(iter(peer["decisions_per_second"].values())))
    for number in callers:
        table.add_column(f"{number} caller{'s' if number != '1' else ''}", justify="right")
    for payments, found in peer["decisions_per_second"].items():
        refused = peer["refused"][payments]
        cells = [
            f"{found[n]:,.1f}" + (f", {refused[n]} refused" if refused[n] else "") for n in callers
        ]
        table.add_row(f"{int(payments):,}", *cells)
    return table
