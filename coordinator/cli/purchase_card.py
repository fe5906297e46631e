"""A purchase as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from coordinator.cli.output import (
    card,
    heading,
    limit_table,
    next_commands,
    readable_time,
    say,
    short_time,
    table,
    usdc,
)

if TYPE_CHECKING:
    from coordinator.domain.purchase.decision import Decision
    from coordinator.domain.purchase.purchase import (
        Purchase,
        PurchaseTransaction,
        RequestPayment,
    )


def show_purchase(purchase: Purchase, *, details: bool = False) -> None:
    """Print the purchase; ``details`` adds its limits, which are told anyway when it waits."""
    card(f"Purchase {purchase.id}", purchase.status.value, _rows(purchase))
    if purchase.transactions:
        heading("Transactions")
        transactions(purchase.transactions)
    if purchase.limits and (details or purchase.denied or purchase.needs_approval):
        heading("Limits at the decision, in USDC")
        limit_table(purchase.limits)


def show_next(purchase: Purchase) -> None:
    """Print the commands that lead on from where the purchase is."""
    if purchase.needs_approval:
        next_commands(
            f"coordinator approvals approve {purchase.approval_id} --approver NAME",
            f"coordinator approvals reject {purchase.approval_id} --approver NAME --reason TEXT",
        )
    elif purchase.status.value in ("approved", "created"):
        next_commands(f"coordinator purchase wait {purchase.id}")


def _rows(purchase: Purchase) -> Iterator[tuple[str, Any]]:
    yield "amount", usdc(purchase.amount)
    yield "provider", named(purchase.provider_name, purchase.provider)
    yield "agent", purchase.agent or "unattributed"
    yield "purpose", purchase.purpose
    for name in ("service", "category", "task", "session"):
        yield name, getattr(purchase, name)
    yield "why", f"{purchase.reason.message} [{purchase.reason.code}]" if purchase.reason else None
    for reason in purchase.reasons[1:]:
        yield "also", f"{reason.message} [{reason.code}]"
    yield "stranded", purchase.stranded.message if purchase.stranded else None
    yield "approval", purchase.approval_id
    for decision in purchase.approvals:
        said = f": {decision.reason}" if decision.reason else ""
        when = readable_time(decision.at)
        yield decision.decision, f"by {decision.approver}, {when}{said}"
    if purchase.x402 is not None:
        yield from _request(purchase.x402)
    else:
        yield "escrow", purchase.escrow_id
    yield from _money(purchase)
    yield "asked", readable_time(purchase.created_at)
    if not purchase.final:
        yield "deadline", readable_time(purchase.deadline)
        yield "dispute until", readable_time(purchase.window_ends)
    yield "key", purchase.idempotency_key


def _request(payment: RequestPayment) -> Iterator[tuple[str, Any]]:
    yield "request to", payment.url
    yield "paid from", payment.wallet
    if payment.valid_before is not None:
        yield "signed", readable_time(payment.signed_at)
        yield "valid to", readable_time(payment.valid_before)


def _money(purchase: Purchase) -> Iterator[tuple[str, Any]]:
    if not purchase.final or not purchase.paid_in:
        return
    yield "spent", usdc(purchase.spent)
    for name, amount in (
        ("provider got", purchase.provider_received),
        ("platform fee", purchase.platform_fee),
        ("penalty", purchase.penalty),
        ("refunded", purchase.refunded),
    ):
        yield name, usdc(amount) if amount else None


def transactions(found: Sequence[PurchaseTransaction]) -> None:
    """Print each transaction with its link, which is never broken over two lines."""
    for item in found:
        where = f" in block {item.block}" if item.block is not None else ""
        gas = f", {item.gas_used:,} gas" if item.gas_used is not None else ""
        say(f"  {item.step:<8} {item.status}{where}{gas}")
        say(f"           {item.url}", style="dim")


def show_purchases(found: Sequence[Purchase]) -> None:
    """Print a table of purchases."""
    if not found:
        say("no purchases")
        return
    table(
        "id",
        "status",
        "agent",
        "provider",
        "USDC",
        "asked (UTC)",
        rows=(
            (
                p.id,
                p.status.value,
                p.agent or "unattributed",
                p.provider_name or p.provider,
                p.amount,
                short_time(p.created_at),
            )
            for p in found
        ),
        right=("USDC",),
        wrap=("agent", "provider"),
    )


def show_decision(decision: Decision, *, agent: str, amount: str) -> None:
    """Print what would be decided."""
    rows: list[tuple[str, Any]] = [
        ("agent", agent),
        ("amount", usdc(amount)),
        ("provider", named(decision.provider_name, decision.provider)),
        ("service", decision.service),
        ("category", decision.category),
    ]
    rows += [("why", f"{reason.message} [{reason.code}]") for reason in decision.reasons]
    card("Dry run: nothing was written or held", decision.outcome.value, rows)
    heading("Limits, in USDC")
    limit_table(decision.limits)


def named(name: str | None, address: str) -> str:
    return f"{name} ({address})" if name else address
