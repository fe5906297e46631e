"""What every part of the benchmark shares: progress on stderr, arguments, and tables of ratios."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

Tell = Callable[[str], None]

# A folder on the disk of the checkout, where the databases stand.
FOLDER: Final = Path(__file__).resolve().parents[2] / ".local"
_STARTED: Final = time.monotonic()


def elapsed() -> float:
    """Seconds since this process began to measure."""
    return time.monotonic() - _STARTED


def teller() -> Tell:
    """Tell progress on stderr, each line with the time since the start."""
    console = Console(stderr=True)

    def tell(text: str) -> None:
        line = f"{elapsed():6.1f} s  {text}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return tell


def positive(of: type[int] | type[float]) -> Callable[[str], float]:
    """An argument that is a number above 0."""

    def number(text: str) -> float:
        try:
            found = of(text)
        except ValueError:
            found = of(0)
        if not 0 < found < 1_000_000:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return found

    return number


def kinds(text: str) -> list[str]:
    """An argument that names databases."""
    found = list(dict.fromkeys(text.split(",")))
    if not set(found) <= {"sqlite", "postgresql"}:
        raise argparse.ArgumentTypeError("databases are sqlite, postgresql or both")
    return found


def show_ratios(summary: Mapping[str, Any], meanings: Mapping[str, str]) -> None:
    """Print the summary's ratios with their meanings and targets, and the machine."""
    console = Console()
    table = Table(title="Ratios within this run", title_justify="left")
    table.add_column("ratio")
    table.add_column("found", justify="right")
    table.add_column("target")
    for name, value in summary["ratios"].items():
        judged = summary["targets"].get(name)
        target = (
            "" if judged is None else f"{judged['target']}, {'' if judged['met'] else 'not '}met"
        )
        table.add_row(
            meanings.get(name, name), f"{value:,.3g}" if value < 100 else f"{value:,.0f}", target
        )
    console.print(table)
    machine = summary["machine"]
    console.print(f"{machine['cores']} cores; {summary['seconds']:,.0f} s", highlight=False)


def show_rows(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
