"""coordinator increases: list, ask, approve and reject requests for more of a limit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.command import DryRun, Yes, ask, command, mode, new_app, opened
from coordinator.cli.decisions import decide, increase_decision
from coordinator.cli.exits import ExitCode
from coordinator.cli.increase_card import show_increase
from coordinator.cli.output import listing, next_commands, render
from coordinator.cli.signing import Means, Signatures, Signer, StatementFile
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.increase import Increase

app = new_app(
    "increases", "Ask for a higher limit for a time; list, approve and reject such requests."
)

IncreaseId = Annotated[str, typer.Argument(metavar="ID", help="The request, inc_…")]
Approver = Annotated[str | None, typer.Option(help="Your name in the policy (required).")]
Reason = Annotated[str | None, typer.Option(help="The reason; it is kept (required).")]


@command(app, "list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Include decided and expired requests.")
    ] = False,
) -> None:
    """List requests for higher limits that wait for approval, oldest first."""
    with opened(act=False) as coordinator:
        found = coordinator.increases(waiting=not everything)
    empty = (
        "no requests for higher limits are waiting"
        if not everything
        else "no requests for higher limits yet"
    )
    rows = [
        (one.id, one.status.value, one.agent, one.amount, one.scope, one.window, one.why)
        for one in found
    ]
    columns = ("id", "status", "agent", "USDC", "scope", "window", "why")
    wrap = ("agent", "scope", "why")
    listing(found, *columns, rows=rows, empty=empty, right=("USDC",), wrap=wrap)


@command(app, "ask")
def ask_more(
    agent: Annotated[str, typer.Option(help="The agent that asks.")],
    amount: Annotated[str, typer.Option(help='USDC to add to the limit, such as "25.00".')],
    reason: Annotated[str, typer.Option(help="The reason, for the approver to read.")],
    scope: Annotated[
        str | None,
        typer.Option(help='Whose limit: default the agent\'s own; or "session:ID" and so on.'),
    ] = None,
    window: Annotated[str, typer.Option(help="Which limit: daily, total and so on.")] = "daily",
    lasts: Annotated[
        str, typer.Option(help="How long it lasts once granted, such as 24h.")
    ] = "24h",
    pool: Annotated[
        str | None, typer.Option(help="Emergency: take what other agents of this pool have left.")
    ] = None,
) -> int:
    """Ask for a higher limit for a time; it is granted, refused, or waits for approval."""
    if pool is not None and scope is not None:
        raise InvalidRequest("an emergency (--pool) is about the agent's share: leave --scope out")
    with opened(act=False) as coordinator:
        asking = coordinator.agent(agent)
        terms: dict[str, Any] = {"reason": reason, "window": window, "lasts": lasts}
        if pool is not None:
            asked = asking.request_emergency(amount, pool=pool, **terms)
        else:
            asked = asking.request_increase(amount, scope=scope, **terms)
        _show(coordinator, asked)
    if asked.waits:
        if not mode.json:
            next_commands(f"coordinator increases approve {asked.id} --approver NAME")
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.OK if asked.granted else ExitCode.DENIED


@command(app, "approve")
def approve(
    increase_id: IncreaseId,
    approver: Approver = None,
    signer: Signer = None,
    signature: Signatures = None,
    statement: StatementFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Approve in your name; the last approval needed grants the increase until it ends."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    means = Means(signer, tuple(signature or ()), statement)
    with opened(act=False) as coordinator:
        found = increase_decision(coordinator, increase_id)
        return decide(coordinator, found, approver, means, dry_run=dry_run, yes=yes)


@command(app, "reject")
def reject(
    increase_id: IncreaseId,
    approver: Approver = None,
    reason: Reason = None,
    signer: Signer = None,
    signature: Signatures = None,
    statement: StatementFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Reject in your name; nothing is granted."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    means = Means(signer, tuple(signature or ()), statement)
    with opened(act=False) as coordinator:
        found = increase_decision(coordinator, increase_id)
        return decide(coordinator, found, approver, means, reason=reason, dry_run=dry_run, yes=yes)


def _show(coordinator: Coordinator, asked: Increase) -> None:
    render(asked, partial(show_increase, coordinator))
