"""coordinator purchase: ask to buy, look, wait, and end."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.approval_card import show_words
from coordinator.cli.command import (
    DryRun,
    Timeout,
    Yes,
    ask,
    at_terminal,
    command,
    confirm,
    fail,
    mode,
    new_app,
    note,
    opened,
    operator_name,
    refuse,
)
from coordinator.cli.exits import ExitCode, of_decision, of_purchase, of_refusal
from coordinator.cli.output import emit, render, tell
from coordinator.cli.purchase_card import show_decision, show_next, show_purchase, show_purchases
from coordinator.cli.signing import Means, Signatures, Signer, StatementFile, signature_of
from coordinator.cli.times import moment
from coordinator.cli.waiting import progress, watched
from coordinator.domain.errors import ChainUnavailable, InvalidRequest
from coordinator.domain.purchase.blocker import BlockerCode

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.purchase.decision import Decision
    from coordinator.domain.purchase.purchase import Answer, Purchase

app = new_app("purchase", "Request, follow and end purchases.")

_LOOK_SECONDS: Final = 0.3
_RECEIPTS_SECONDS: Final = 3

PurchaseId = Annotated[str, typer.Argument(metavar="ID", help="The purchase, pur_…")]


@command(app, "request")
def request(
    agent: Annotated[str, typer.Option(help="The agent that buys.")],
    provider: Annotated[
        str, typer.Option(help="The provider's name in the policy, or its address.")
    ],
    amount: Annotated[str, typer.Option(help='USDC as digits, such as "25.00".')],
    purpose: Annotated[str, typer.Option(help="The purpose, for people to read.")],
    service: Annotated[str | None, typer.Option(help="The provider's service name.")] = None,
    category: Annotated[str | None, typer.Option(help="Default: the policy's.")] = None,
    task: Annotated[str | None, typer.Option(help="The task it belongs to.")] = None,
    session: Annotated[str | None, typer.Option(help="The session it belongs to.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Your name for this request: the same key never pays twice.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is funded.")] = True,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Request a purchase; the policy decides at once, and an allowed one is funded on chain."""
    from coordinator.domain.purchase.request import Request

    terms: dict[str, Any] = {
        "provider": provider,
        "amount": amount,
        "purpose": purpose,
        "service": service,
        "category": category,
        "task": task,
        "session": session,
    }
    said = "nothing was requested"
    try:
        with opened() as coordinator:
            asking = coordinator.agent(agent)
            if dry_run:
                return _tell_decision(asking.check(**terms), agent, amount)
            # Software asks without a terminal, and the policy is what it has to pass.
            if at_terminal() and not yes:
                confirm(f"Buy from {provider} for {amount} USDC as {agent}?", yes=False)
            # What is malformed is told first, then an endpoint that is down; then it is asked.
            Request.of(agent=agent, treasury_address=coordinator.opened.treasury_address, **terms)
            if wait:
                coordinator.start()
            said = f"the request may have been recorded: coordinator purchase list --agent {agent}"
            purchase = asking.purchase(**terms, idempotency_key=idempotency_key, wait=False)
            said = f"{purchase.id} was requested: coordinator purchase show {purchase.id}"
            try:
                if wait and not (purchase.final or purchase.needs_approval):
                    purchase = watched(coordinator, purchase.id, "funded", timeout_seconds)
                    purchase = with_receipts(coordinator, purchase)
                    _tell_timeout(purchase, "funded", timeout_seconds)
                elif purchase.status.value == "approved":
                    tell_worker(coordinator, purchase)
                return _tell(purchase, until="funded" if wait else None)
            except KeyboardInterrupt:
                said = _stopped(coordinator, coordinator.get(purchase.id))
                raise
    except (KeyboardInterrupt, typer.Abort):
        return fail("aborted", f"stopped by you: {said}", ExitCode.FAILED)


@command(app, "show")
def show(purchase_id: PurchaseId) -> None:
    """Show everything about one purchase."""
    with opened(act=False) as coordinator:
        purchase = coordinator.get(purchase_id)
    render(purchase, partial(_show, details=True))


@command(app, "list")
def list_(
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only purchases in this status; may be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Requested since 24h ago, 7d, 2026-05-01 or an RFC 3339 time."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    after: Annotated[
        str | None, typer.Option(help="Continue after this id, the last one of the previous page.")
    ] = None,
) -> None:
    """List purchases, newest first."""
    with opened(act=False) as coordinator:
        found = coordinator.purchases(
            agent=agent, status=status or None, since=moment(since), limit=limit, after=after
        )
    render(found, show_purchases)


@command(app, "wait")
def wait(
    purchase_id: PurchaseId,
    until: Annotated[str, typer.Option(help="funded, delivered or final.")] = "funded",
    timeout_seconds: Timeout = 60,
) -> int:
    """Wait until a purchase is funded, delivered or final; without a worker, this process acts."""
    if until not in ("funded", "delivered", "final"):
        raise InvalidRequest("--until must be funded, delivered or final")
    with opened() as coordinator:
        purchase = coordinator.get(purchase_id)
        if not (purchase.final or purchase.needs_approval):
            coordinator.start()
            purchase = watched(coordinator, purchase_id, until, timeout_seconds)
            purchase = with_receipts(coordinator, purchase)
            _tell_timeout(purchase, until, timeout_seconds)
    return _tell(purchase, until=until)


@command(app, "cancel")
def cancel(
    purchase_id: PurchaseId,
    by: Annotated[
        str | None, typer.Option(help="Your name, for the audit log; default: this user.")
    ] = None,
    timeout_seconds: Timeout = 60,
    yes: Yes = False,
) -> int:
    """Cancel a purchase that is not funded and has nothing on its way; its hold is voided."""
    with opened() as coordinator:
        purchase = coordinator.get(purchase_id)
        confirm(f"Cancel {purchase_id}, {_about(purchase)}?", yes=yes)
        answer = coordinator.cancel(purchase_id, by=operator_name(by))
        return _carry_out(coordinator, answer, "cancelled", timeout_seconds)


@command(app, "settle")
def settle(
    purchase_id: PurchaseId,
    approver: Annotated[
        str | None, typer.Option(help="The approver's name (required without --agent).")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="The agent that bought it, for amounts up to its threshold.")
    ] = None,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Pay the provider of a delivered purchase before its dispute window ends."""
    if agent is None:
        approver = ask("Approver", approver, "--approver NAME (or --agent ID)")
    elif approver is not None:
        raise InvalidRequest("give --approver or --agent, not both")
    with opened(act=not dry_run) as coordinator:
        purchase = coordinator.get(purchase_id)
        if dry_run:
            return _would(purchase, "delivered", "settled", f"pay {purchase.provider}")
        confirm(f"Pay the provider of {purchase_id}, {_about(purchase)}?", yes=yes)
        if agent is not None:
            answer = coordinator.agent(agent).settle(purchase_id)
        else:
            assert approver is not None
            answer = coordinator.settle(purchase_id, approver=approver)
        return _carry_out(coordinator, answer, "settled", timeout_seconds)


@command(app, "dispute")
def dispute(
    purchase_id: PurchaseId,
    approver: Annotated[str | None, typer.Option(help="The approver's name (required).")] = None,
    reason: Annotated[
        str | None, typer.Option(help="The reason, for the audit log (required).")
    ] = None,
    signer: Signer = None,
    signature: Signatures = None,
    statement: StatementFile = None,
    timeout_seconds: Timeout = 60,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Dispute a delivered purchase within its dispute window; it costs a bond."""
    approver = ask("Approver", approver, "--approver NAME")
    reason = ask("Reason", reason, "--reason TEXT")
    with opened(act=not dry_run) as coordinator:
        purchase = coordinator.get(purchase_id)
        if dry_run:
            return _would(purchase, "delivered", "disputed", "hold and pay the bond")
        means = Means(signer, tuple(signature or ()), statement).ready(
            coordinator, approver, purchase_id
        )
        asked = coordinator.dispute_statement(purchase_id, reason=reason) if means.given else None
        if at_terminal() and not yes:
            show_words(asked)
        confirm(f"Dispute {purchase_id}, {_about(purchase)}? It costs a bond.", yes=yes)
        signed = signature_of(coordinator, approver, means, asked)
        answer = coordinator.dispute(
            purchase_id, approver=approver, reason=reason, signature=signed
        )
        return _carry_out(coordinator, answer, "disputed", timeout_seconds)


@command(app, "receipt")
def receipt(
    purchase_id: PurchaseId,
    output: Annotated[Path | None, typer.Option(help="Write the JSON to a new file.")] = None,
) -> None:
    """Print the proof of one purchase: who, why, limits, approvals, transactions."""
    from coordinator.cli.receipts import show_receipt, write_new_json

    with opened(act=False) as coordinator:
        found = coordinator.receipt(purchase_id)
        purchase = coordinator.get(purchase_id)
    if output is not None:
        write_new_json(output, found)
        note(f"written to {output}")
    if mode.json:
        emit(found)
    elif output is None:
        show_receipt(purchase, found)


def tell_worker(coordinator: Coordinator, purchase: Purchase) -> None:
    """Say on stderr who goes on with it, or what is in its way."""
    holder = coordinator.wiring.leases.present()
    blocker = coordinator.wiring.blockers.of(purchase)
    if holder is not None and holder.alive:
        note(f"a worker is alive (process {holder.pid})")
    if blocker is not None:
        note(blocker.message)


def drive(coordinator: Coordinator, purchase: Purchase, timeout_seconds: int) -> Purchase:
    """The purchase once it is funded or final, or as it is at the timeout or without a chain."""
    try:
        coordinator.start()
        found = watched(coordinator, purchase.id, "funded", timeout_seconds)
        _tell_timeout(found, "funded", timeout_seconds)
        return with_receipts(coordinator, found)
    except ChainUnavailable as fault:
        note(f"{fault}; the decision stands, and a worker continues it later")
        return coordinator.get(purchase.id)


def with_receipts(coordinator: Coordinator, purchase: Purchase) -> Purchase:
    """The purchase with blocks and gas: the event that ends a wait comes before the receipts."""
    deadline = time.monotonic() + _RECEIPTS_SECONDS
    while any(t.block is None for t in purchase.transactions) and time.monotonic() < deadline:
        if purchase.status.value in ("approved", "created"):
            break
        time.sleep(_LOOK_SECONDS / 6)
        purchase = replace(coordinator.get(purchase.id), blocker=purchase.blocker)
    return purchase


def _carry_out(coordinator: Coordinator, answer: Answer, goal: str, timeout_seconds: int) -> int:
    if not answer.done:
        return refuse(answer.reason, of_refusal(answer.reason), purchase=answer.purchase.as_dict())
    purchase = answer.purchase
    if purchase.status.value != goal:
        coordinator.start()
        deadline = time.monotonic() + timeout_seconds
        while purchase.status.value != goal and not purchase.final:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            purchase = coordinator.wait_for(
                purchase.id, until="final", timeout_seconds=min(left, _LOOK_SECONDS)
            )
    _tell(with_receipts(coordinator, purchase), until=None)
    if purchase.status.value == goal:
        return ExitCode.OK
    return of_purchase(purchase, until="final")


def _tell(purchase: Purchase, *, until: str | None) -> int:
    render(purchase, _show)
    return of_purchase(purchase, until=until)


def _show(purchase: Purchase, *, details: bool = False) -> None:
    show_purchase(purchase, details=details)
    show_next(purchase)


def _stopped(coordinator: Coordinator, purchase: Purchase) -> str:
    """Say what an interrupted command leaves, and what is in its way."""
    if purchase.final or purchase.needs_approval:
        return f"{purchase.id} is {purchase.status}"
    blocker = coordinator.wiring.blockers.of(purchase)
    if blocker is not None and blocker.code is not BlockerCode.NOBODY_ACTS:
        return f"{purchase.id} is {purchase.status}, and waits: {blocker.message}"
    return (
        f"{purchase.id} is {purchase.status} and continues with a worker, or with:"
        f" coordinator purchase wait {purchase.id}"
    )


def _tell_timeout(purchase: Purchase, until: str, timeout_seconds: int) -> None:
    """Say on stderr that the time was over before it got that far."""
    on_its_way = not (purchase.final or purchase.needs_approval)
    if on_its_way and of_purchase(purchase, until=until) != ExitCode.OK:
        why = purchase.blocker.message if purchase.blocker else progress(purchase)
        note(f"{purchase.status}, not {until} after {timeout_seconds} s: {why}")


def _tell_decision(decision: Decision, agent: str, amount: str) -> int:
    told = {
        "dry_run": True,
        "agent": agent,
        "amount": amount,
        "outcome": decision.outcome.value,
        "reason": decision.reason.as_dict() if decision.reason else None,
        "reasons": [reason.as_dict() for reason in decision.reasons],
        "limits": [state.as_dict() for state in decision.limits],
        "provider": decision.provider,
        "provider_name": decision.provider_name,
        "service": decision.service,
        "category": decision.category,
    }
    render(decision, partial(show_decision, agent=agent, amount=amount), told=told)
    return of_decision(decision)


def _would(purchase: Purchase, needed: str, goal: str, what: str) -> int:
    possible = purchase.status.value == needed
    text = f"not possible: it is {purchase.status}; only {needed} purchases can be {goal}"
    if possible:
        text = f"would {what} for {purchase.id}, {_about(purchase)}; then it is {goal}"
    told = {"dry_run": True, "possible": possible, "purchase": purchase.as_dict()}
    tell(told, f"dry run: {text}")
    return ExitCode.OK if possible else ExitCode.FAILED


def _about(purchase: Purchase) -> str:
    return (
        f"{purchase.amount} USDC of {purchase.agent or 'an unknown agent'} to"
        f" {purchase.provider_name or purchase.provider} ({purchase.status})"
    )
