"""coordinator increases: list, ask, approve and reject requests for more of a limit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.command import (
    DryRun,
    Yes,
    ask,
    command,
    confirm,
    mode,
    new_app,
    note,
    opened,
    refuse,
)
from coordinator.cli.exits import ExitCode, of_refusal
from coordinator.cli.output import (
    card,
    emit,
    heading,
    limit_table,
    listing,
    next_commands,
    readable_time,
    render,
    say,
    usdc,
)
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.limits.increase import Increase
    from coordinator.domain.limits.limits import LimitState

app = new_app(
    "increases", "Ask for a higher limit for a time; list, approve and reject such requests."
)

PREFIX: Final = "inc_"
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
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Approve in your name; the last approval needed grants the increase until it ends."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    with opened(act=False) as coordinator:
        return approve_one(coordinator, increase_id, approver, dry_run=dry_run, yes=yes)


@command(app, "reject")
def reject(
    increase_id: IncreaseId,
    approver: Approver = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Reject in your name; nothing is granted."""
    approver = ask("Your name in the policy", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=False) as coordinator:
        return reject_one(coordinator, increase_id, approver, reason, dry_run=dry_run, yes=yes)


def approve_one(
    coordinator: Coordinator, increase_id: str, approver: str, *, dry_run: bool, yes: bool
) -> int:
    """Approve it, or with ``dry_run`` tell whether the approver may; the exit code."""
    asked = coordinator.wiring.budgets.increases.get(increase_id)
    if dry_run:
        return _may(coordinator, asked, approver)
    confirm(question("Grant", asked, approver), yes=yes)
    answer = coordinator.approve_increase(increase_id, approver=approver)
    if answer.reason is not None:
        return refuse(answer.reason, of_refusal(answer.reason), increase=answer.as_dict())
    _show(coordinator, answer)
    if answer.waits:
        note("it needs more approvals")
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.OK


def reject_one(
    coordinator: Coordinator,
    increase_id: str,
    approver: str,
    reason: str,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Reject it, or with ``dry_run`` tell whether the approver may; the exit code."""
    asked = coordinator.wiring.budgets.increases.get(increase_id)
    if dry_run:
        return _may(coordinator, asked, approver)
    confirm(question("Reject", asked, approver), yes=yes)
    answer = coordinator.reject_increase(increase_id, approver=approver, reason=reason)
    if answer.reason is None or answer.reason.code.value != "rejected":
        return refuse(answer.reason, of_refusal(answer.reason), increase=answer.as_dict())
    _show(coordinator, answer)
    return ExitCode.OK


def show_increase(coordinator: Coordinator, asked: Increase) -> None:
    """Print what the approver has to know: who, how much of what, how long, why, what is left."""
    by = ", ".join(asked.approved_by) or "nobody yet"
    rows: list[tuple[str, Any]] = [
        ("agent", asked.agent),
        ("asks", f"{usdc(asked.amount)} more {asked.window.words} of {asked.scope}"),
        ("takes it from", "the pool's other agents" if asked.kind == "emergency" else None),
        ("for", f"{asked.lasts_seconds / 3600:g} h once granted"),
        ("why", asked.why),
        ("reason", asked.reason.message if asked.reason else None),
        ("asked", readable_time(asked.created_at)),
        ("expires", readable_time(asked.expires_at) if asked.waits else None),
        ("approved by", f"{by} ({asked.required} needed)" if asked.waits else by),
        ("ends", readable_time(asked.ends_at)),
    ]
    card(f"Increase {asked.id}", asked.status.value, rows)
    states = limits_of(coordinator, asked)
    if states:
        heading("The limit now, in USDC")
        limit_table(states)


def pending_increase(coordinator: Coordinator, asked: Increase) -> dict[str, Any]:
    """The request among approvals, by the keys that those of purchases have."""

    told = asked.as_dict()
    kept = ("kind", "agent", "amount", "created_at", "expires_at", "required", "approved_by")
    return {
        "approval_id": asked.id,
        "purchase_id": None,
        "status": "awaiting_approval" if asked.waits else asked.status.value,
        "provider": None,
        "provider_name": None,
        "purpose": asked.why,
        **dict.fromkeys(("service", "category", "task", "session", "reason")),
        "refusals": [],
        **{key: told[key] for key in (*kept, "scope", "window", "lasts_seconds")},
        "limits": [state.as_dict() for state in limits_of(coordinator, asked)],
    }


def limits_of(coordinator: Coordinator, asked: Increase) -> list[LimitState]:
    """The limit that it is about; empty when there is none any more."""
    wiring = coordinator.wiring
    states = wiring.limits.states(asked.terms, now=wiring.clock())
    wanted = (asked.scope, asked.window)
    return [state for state in states if (state.limit.scope, state.limit.window) == wanted]


def _may(coordinator: Coordinator, asked: Increase, approver: str) -> int:
    from coordinator.domain.limits.increase import may_decide

    refusal = may_decide(coordinator.wiring.policies.current(), asked, approver)
    if refusal is not None:
        return refuse(refusal, of_refusal(refusal))
    if mode.json:
        emit({"dry_run": True, **asked.as_dict()})
    else:
        show_increase(coordinator, asked)
        say()
        say(f"dry run: {approver} may decide this; nothing was changed")
    return ExitCode.OK


def question(what: str, asked: Increase, approver: str) -> str:
    """Return the question to confirm before it is decided."""
    return f"{what} {asked.agent} {usdc(asked.amount)} more of {asked.scope} as {approver}?"


def _show(coordinator: Coordinator, asked: Increase) -> None:
    render(asked, partial(show_increase, coordinator))
