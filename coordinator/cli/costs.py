"""coordinator costs: hold, post, void and record what has no escrow, from scripts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.command import DryRun, command, fail, new_app, opened
from coordinator.cli.exits import ExitCode
from coordinator.cli.output import (
    card,
    heading,
    limit_table,
    listing,
    readable_time,
    render,
    say,
    short_time,
    usdc,
)
from coordinator.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.domain.limits.limits import LimitState
    from coordinator.domain.purchase.cost import Cost, CostDecision

app = new_app("costs", "Count spending without an escrow (model calls, fees) in the same limits.")

CostId = Annotated[str, typer.Argument(metavar="ID", help="The cost, cst_…")]
Agent = Annotated[str, typer.Option(help="The agent that spends.")]
Amount = Annotated[str, typer.Option(help='USDC as digits, such as "0.25".')]
Category = Annotated[str | None, typer.Option(help="Default: the policy's.")]
Provider = Annotated[str | None, typer.Option(help="The name of whoever is paid.")]
Task = Annotated[str | None, typer.Option(help="The task it belongs to.")]
Session = Annotated[str | None, typer.Option(help="The session it belongs to.")]
Purpose = Annotated[str | None, typer.Option(help="The purpose, for people to read.")]
X402 = Annotated[bool, typer.Option("--x402", help="The payment for a single HTTP request (x402).")]


@command(app, "list")
def list_(
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's.")] = None,
    status: Annotated[str | None, typer.Option(help="held, posted or voided.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most costs to list.")] = 100,
) -> None:
    """List accepted costs, newest first."""
    from coordinator.domain.purchase.cost import CostStatus

    if status not in (None, "held", "posted", "voided"):
        raise InvalidRequest("--status must be held, posted or voided")
    wanted = CostStatus(status) if status is not None else None
    with opened(act=False) as coordinator:
        found = coordinator.wiring.costs.list(
            agent=agent, task=task, session=session, status=wanted, limit=limit
        )
    rows = [
        (c.id, c.status.value, c.request.agent, c.category, c.amount, c.posted, when)
        for c in found
        if (when := short_time(c.created_at))
    ]
    columns = ("id", "status", "agent", "category", "asked", "posted", "at (UTC)")
    right, wrap = ("asked", "posted"), ("agent", "category")
    listing(found, *columns, rows=rows, empty="no costs", right=right, wrap=wrap)


@command(app, "hold")
def hold(
    agent: Agent,
    amount: Amount,
    category: Category = None,
    provider: Provider = None,
    task: Task = None,
    session: Session = None,
    purpose: Purpose = None,
    x402: X402 = False,
    expires_after: Annotated[
        str,
        typer.Option(
            help="If neither posted nor voided after this many seconds, it is posted in full."
        ),
    ] = "15m",
    dry_run: DryRun = False,
) -> int:
    """Hold an amount for a cost; post the actual cost later, or void it."""
    terms = _terms(category, provider, task, session, purpose) | {"x402": x402}
    with opened(act=False) as coordinator:
        asking = coordinator.agent(agent)
        if dry_run:
            return _tell_check(asking.check_hold(amount, **terms), amount)
        cost = asking.hold(amount, expires_after=expires_after, **terms).cost
    render(cost, _show)
    return ExitCode.DENIED if cost.denied else ExitCode.OK


@command(app, "record")
def record(
    agent: Agent,
    amount: Amount,
    category: Category = None,
    provider: Provider = None,
    task: Task = None,
    session: Session = None,
    purpose: Purpose = None,
) -> None:
    """Record money already spent; never refused, even beyond limits."""
    terms = _terms(category, provider, task, session, purpose)
    with opened(act=False) as coordinator:
        cost = coordinator.agent(agent).record(amount, **terms)
    render(cost, _show)


@command(app, "post")
def post(
    cost_id: CostId,
    amount: Annotated[
        str | None, typer.Option(help="What it cost in the end; default: all that is held.")
    ] = None,
) -> int:
    """Post the actual amount of a held cost; it may exceed the amount held."""
    with opened(act=False) as coordinator:
        budgets = coordinator.wiring.budgets
        actual = amount if amount is not None else budgets.costs.get(cost_id).amount
        return _ended(budgets.post(cost_id, actual), amount or str(actual))


@command(app, "void")
def void(cost_id: CostId) -> int:
    """Void a held cost: nothing was spent, and its amount is free again."""
    with opened(act=False) as coordinator:
        return _ended(coordinator.wiring.budgets.void(cost_id, by_owner=False), "0")


def _ended(cost: Cost, actual: str) -> int:
    """A failure where it had ended in another way before."""
    from coordinator.domain.usdc import Usdc

    if cost.posted != Usdc(actual):
        text = f"{cost.id} is already {cost.status}, with {cost.posted} USDC counted"
        return fail("ended_before", text, ExitCode.FAILED, cost=cost.as_dict())
    render(cost, _show)
    return ExitCode.OK


def _terms(
    category: str | None,
    provider: str | None,
    task: str | None,
    session: str | None,
    purpose: str | None,
) -> dict[str, Any]:
    return {
        "category": category,
        "provider": provider,
        "task": task,
        "session": session,
        "purpose": purpose,
    }


def _show(cost: Cost) -> None:
    asked, held = cost.request, cost.status.value == "held"
    rows = [
        ("agent", asked.agent),
        ("asked", usdc(cost.amount)),
        ("counted", usdc(cost.posted) if not held and not cost.denied else None),
        ("category", cost.category),
        ("provider", asked.provider),
        ("task", asked.task),
        ("session", asked.session),
        ("purpose", asked.purpose),
        ("posted in full at", readable_time(cost.expires_at) if held else None),
        *(("reason", reason.message) for reason in cost.reasons),
    ]
    card(f"Cost {cost.id}" if not cost.denied else "Cost", cost.status.value, rows)
    _show_limits(cost.limits if cost.denied else ())


def _tell_check(decision: CostDecision, amount: str) -> int:
    denied = bool(decision.reasons)
    told = {
        "dry_run": True,
        "ok": not denied,
        "reasons": [reason.as_dict() for reason in decision.reasons],
        "limits": [state.as_dict() for state in decision.limits],
    }
    render(decision, partial(_show_check, amount), told=told)
    return ExitCode.DENIED if denied else ExitCode.OK


def _show_check(amount: str, decision: CostDecision) -> None:
    said = "would be refused" if decision.reasons else "would be held"
    say(f"dry run: {amount} USDC {said}")
    for reason in decision.reasons:
        say(f"  {reason.message}")
    _show_limits(decision.limits)


def _show_limits(limits: tuple[LimitState, ...]) -> None:
    if limits:
        heading("Limits, in USDC")
        limit_table(limits)
