"""coordinator alerts: list notices, and test their targets."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.command import command, new_app, opened
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import listing, render, short_time, table
from coordinator.cli.times import moment
from coordinator.domain.errors import InvalidRequest

app = new_app("alerts", "List notices, and test where they are delivered.")


@command(app, "list")
def list_(
    since: Annotated[
        str | None,
        typer.Option(help="Since 24h ago, 7d, 2026-05-01 or an RFC 3339 time; default: all."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as paused.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most notices to list.")] = 100,
) -> None:
    """List notices, newest first, and whether each was delivered."""
    with opened(act=False) as coordinator:
        found = coordinator.alerts(since=moment(since), kind=kind, limit=limit)
    listing(
        found,
        "at (UTC)",
        "",
        "kind",
        "message",
        "delivery",
        rows=(
            (
                short_time(kept.notice.at),
                kept.notice.severity.value,
                kept.notice.kind,
                kept.notice.message,
                kept.delivery,
            )
            for kept in found
        ),
        empty="no notices",
        wrap=("message", "delivery"),
    )


@command(app, "test")
def test() -> int:
    """Send a test notice to every target; exit code 1 if one fails."""
    from coordinator.alerts.delivery import send_test

    with opened(act=False) as coordinator:
        targets, now = coordinator.wiring.notify_urls(), coordinator.wiring.clock()
    if not targets:
        raise InvalidRequest("the policy in force names no target: set [alerts] notify")
    answers = send_test(targets, now)
    told = [{"target": shown, "ok": fault is None, "fault": fault} for shown, fault in answers]
    rows = ((shown, "fail" if fault else "ok", fault or "") for shown, fault in answers)
    render(told, lambda _: table("target", "", "fault", rows=rows, wrap=("fault",)))
    return ExitCode.FAILED if any(fault for _, fault in answers) else ExitCode.OK
