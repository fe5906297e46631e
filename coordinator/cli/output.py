"""Output of the commands: tables and cards for people, JSON for programs."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from coordinator.cli.command import mode
from coordinator.domain.plain_text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from coordinator.books.follower import Progress
    from coordinator.domain.limits.limits import LimitState

T = TypeVar("T")

_PIPED_WIDTH: Final = 250
_BREAKABLE_WIDTH: Final = 12
# Amounts, ids, addresses and hashes: a word that holds one is never broken.
_WHOLE: Final = re.compile(r"[0-9]+\.[0-9]{2}|0x[0-9a-fA-F]{8}|\b[a-z]{3}_[0-9A-Za-z]{8}")
_LONG_RANGE_BLOCKS: Final = 5000
_STYLES: Final = {
    "denied": "red",
    "rejected": "red",
    "failed": "red",
    "expired": "magenta",
    "cancelled": "magenta",
    "awaiting_approval": "yellow",
    "approved": "cyan",
    "created": "cyan",
    "funded": "green",
    "started": "green",
    "delivered": "green",
    "disputed": "yellow",
    "settled": "bold green",
    "done": "green",
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "broken": "bold red",
}


def console(*, err: bool = False, piped_width: int = _PIPED_WIDTH) -> Console:
    """Writes for people; when piped no colour, and wide enough that no id is broken."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else piped_width
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def emit(value: Any) -> None:
    """Print the JSON that a program reads."""
    print(json.dumps(value, indent=2))


def render(result: T, people: Callable[[T], object], *, told: Any = None) -> None:
    """Print a result: as JSON (``told``, else its ``as_dict``), or for people by ``people``."""
    if mode.json:
        emit(_plain(result if told is None else told))
    else:
        people(result)


def tell(told: dict[str, Any], text: str, *, style: str | None = None) -> None:
    """Print a result that is one line for people."""
    render(told, lambda _: say(text, style=style))


def listing(
    found: Sequence[Any],
    *columns: str,
    rows: Iterable[Sequence[Any]],
    empty: str,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
) -> None:
    """Print a list of results: as JSON, as a table, or as the line that says there are none."""
    if found or mode.json:
        render(found, lambda _: table(*columns, rows=rows, right=right, wrap=wrap))
    else:
        say(empty)


def _plain(result: Any) -> Any:
    if hasattr(result, "as_dict"):
        return result.as_dict()
    return [_plain(one) for one in result] if isinstance(result, (list, tuple)) else result


def say(text: str = "", *, style: str | None = None) -> None:
    """Print a line for people; long ones are not broken, so that they can be copied."""
    console().print(visible(text, lines=True), style=style, soft_wrap=True)


def heading(text: str) -> None:
    say()
    say(text, style="bold")


def lines_of(*texts: str) -> None:
    """Print sentences, each from a line of its own; long ones go on below, no word is broken."""
    for text in texts:
        for number, line in enumerate(_broken(visible(text, lines=True), console().width)):
            say(f"  {'  ' if number else ''}{line}")


def _broken(text: str, width: int) -> list[str]:
    room = max(width - 4, 20)
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def next_commands(*commands: str) -> None:
    """The commands that a person would type now."""
    heading("Next")
    for command in commands:
        say(f"  {command}", style="cyan")


def table(
    *columns: str,
    rows: Iterable[Sequence[Any]],
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
    piped_width: int = _PIPED_WIDTH,
) -> None:
    """Print a table; where it is too wide the columns in ``wrap`` go on below.

    Nothing is cut off and no amount or id is broken: where that is not enough, each row is
    printed as lines of names and values.
    """
    from rich import box
    from rich.table import Table

    out = console(piped_width=piped_width)
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    widths = _widths(columns, cells, wrap, out.width)
    if widths is None:
        _rows_as_lines(columns, cells, wrap, out.width)
        return
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    made.show_edge = False
    for name, width in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "right" if name in right else "left"
        made.add_column(name, justify=side, overflow="fold", width=width)
    _fill(made, cells)
    out.print(made)


def _widths(
    columns: Sequence[str], cells: Sequence[Sequence[str]], wrap: Sequence[str], width: int
) -> list[int] | None:
    """Each column's width, the widest in ``wrap`` made narrower first; None: it can't fit."""
    from rich.cells import cell_len

    wanted, least = [], []
    for i, name in enumerate(columns):
        texts = [name, *(row[i] for row in cells)]
        wanted.append(max(map(cell_len, texts)))
        words = [word for text in texts for word in text.split()]
        kept = (
            cell_len(word) if _WHOLE.search(word) else min(cell_len(word), _BREAKABLE_WIDTH)
            for word in words
        )
        least.append(max(kept, default=0) if name in wrap else wanted[-1])
    over = sum(wanted) + 2 * len(columns) - 1 - width
    while over > 0:
        free = [i for i in range(len(columns)) if wanted[i] > least[i]]
        if not free:
            return None
        wanted[max(free, key=wanted.__getitem__)] -= 1
        over -= 1
    return wanted


def _rows_as_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], wrap: Sequence[str], width: int
) -> None:
    names = max(map(len, columns)) + 2
    for number, row in enumerate(cells):
        if number:
            say()
        for name, cell in zip(columns, row, strict=True):
            lines = [cell]
            if name in wrap:
                lines = textwrap.wrap(cell, max(width - names, 20), break_long_words=False)
            for i, line in enumerate(lines if cell else ()):
                shown = "" if i else name
                say(f"{shown:<{names}}{line}", style=_STYLES.get(line))


def card(title: str, status: str | None, rows: Iterable[tuple[str, Any]]) -> None:
    """Print one thing: its title and status, then its names and values; empty ones left out."""
    from rich.table import Table
    from rich.text import Text

    head = Text(title, style="bold")
    if status:
        head.append("  ").append(status, style=_STYLES.get(status, ""))
    console().print(head, soft_wrap=True)
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    _fill(made, ((f"  {name}", value) for name, value in rows if value not in (None, "", [])))
    console().print(made)


def _fill(made: Table, rows: Iterable[Sequence[Any]]) -> None:
    from rich.text import Text

    for row in rows:
        cells = ["" if cell is None else visible(str(cell)) for cell in row]
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))


def usdc(amount: Any) -> str:
    return f"{amount} USDC"


def readable_time(at: int | str | None) -> str | None:
    """A unix second or RFC 3339 text as ``2026-05-01 12:00:00 UTC (3 min ago)``."""
    if at is None:
        return None
    moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    away = int(moment.timestamp() - time.time())
    relation = f"in {span(away)}" if away > 0 else f"{span(-away)} ago"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({relation})"


def local_time(at: int | None) -> str | None:
    """A unix second on this machine's clock, with its zone: ``2026-05-01 14:00 CEST (in 3 h)``."""
    if at is None:
        return None
    moment, away = datetime.fromtimestamp(at).astimezone(), at - int(time.time())
    zone = moment.tzname() or "UTC"
    named = f"UTC{zone}" if zone[:1] in "+-" else zone
    relation = f"in {span(away)}" if away > 0 else f"{span(-away)} ago"
    return f"{moment:%Y-%m-%d %H:%M} {named} ({relation})"


def short_time(at: int | str | None) -> str:
    """A time for a table: without the year where that is this one."""
    if at is None:
        return ""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    moment = moment.astimezone(UTC)
    this_year = moment.year == datetime.now(UTC).year
    return f"{moment:%m-%d %H:%M}" if this_year else f"{moment:%Y-%m-%d %H:%M}"


def span(seconds: int) -> str:
    """A length of time in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "d"):
            return f"{seconds // length} {unit}"
    return f"{max(0, seconds)} s"


def limit_table(limits: Iterable[LimitState]) -> None:
    """Print limits in USDC, with what is left of each."""
    rows = []
    for state in limits:
        counted = state.limit.window.value != "per_purchase"
        rows.append(
            (
                "broken" if state.broken else "",
                state.limit.scope,
                state.limit.window.value.replace("_", " "),
                state.limit.amount,
                state.usage.spent if counted else "",
                state.usage.held if counted else "",
                remaining_text(str(state.remaining)),
                short_time(state.resets_at),
            )
        )
    columns = ("", "scope", "window", "limit", "spent", "held", "remaining", "resets (UTC)")
    right = ("limit", "spent", "held", "remaining")
    first = 0 if any(row[0] for row in rows) else 1
    shown = [row[first:] for row in rows]
    table(*columns[first:], rows=shown, right=right, wrap=("scope", "window"))


def remaining_text(remaining: str) -> str:
    """What remains of a limit; a limit below what is used already is exceeded."""
    return f"exceeded by {remaining[1:]}" if remaining.startswith("-") else remaining


@contextmanager
def block_progress(what: str) -> Iterator[Progress | None]:
    """A bar on stderr over a long range of blocks; None where nobody would see it."""
    if mode.json or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress as Bar

    with Bar(console=console(err=True), transient=True) as bar:
        task: list[Any] = []

        def tell(first: int, reached: int, last: int) -> None:
            if not task and last - first >= _LONG_RANGE_BLOCKS:
                task.append(bar.add_task(what, total=last - first))
            if task:
                bar.update(task[0], completed=reached - first)

        yield tell
