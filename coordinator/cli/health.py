"""coordinator doctor and coordinator demo."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final

import typer

from coordinator.cli.command import mode
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import emit, say, table

if TYPE_CHECKING:
    from coordinator.doctor import Check


_PIPED_WIDTH: Final = 120


def doctor() -> int:
    """Check everything a purchase needs, and say how to fix what is wrong."""
    from coordinator.doctor import run

    found = run()
    failed = {check.area for check in found if check.status == "fail"}
    if mode.json:
        emit([check.as_dict() for check in found])
    else:
        table(
            "check",
            "",
            "found",
            "what to do",
            rows=_rows(found),
            wrap=("check", "found", "what to do"),
            piped_width=_PIPED_WIDTH,
        )
        counts = [sum(c.status == status for c in found) for status in ("ok", "warn", "fail")]
        say()
        say(f"{counts[0]} ok, {counts[1]} to look at, {counts[2]} wrong", style="bold")
    if "configuration" in failed:
        return ExitCode.INVALID
    return ExitCode.CHAIN if failed else ExitCode.OK


def _rows(found: list[Check]) -> Iterator[tuple[str, str, str, str | None]]:
    """A row for each check; those that were skipped for the same reason share one."""
    for (status, text, action), same in groupby(found, lambda c: (c.status, c.found, c.action)):
        names = [check.name for check in same]
        shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        yield shown, status, text, action


class Payer(StrEnum):
    WALLET = "wallet"
    SAFE = "safe"


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the chain and a worker running afterwards.")
    ] = False,
    payer: Annotated[
        Payer, typer.Option(help="What the treasury is: a key's own account, or a Safe.")
    ] = Payer.WALLET,
) -> int:
    """Play a research crew buying services on a local chain, and check each outcome."""
    from coordinator.demo import run

    return int(run(json_output=mode.json, keep=keep, payer=payer.value))
