"""Moves of a purchase that happen without the chain, and orders about it, with their audit rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, case, exists, select, update

from coordinator.domain.approval_notices import approval_expired
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.observed import ended
from coordinator.domain.purchase.lifecycle import Status, check_move
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO
from coordinator.ledger.spend.holds import end_hold
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.signed import require_unsigned
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import report_tampering
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c


def move(
    tx: Tx,
    purchase: Purchase,
    status: Status,
    now: int,
    *,
    reason: Reason | None = None,
    said: Mapping[str, Any] | None = None,
    **values: int | None,
) -> None:
    """Move the purchase to ``status``; ``said`` goes into its audit row.

    ImpossibleState when the table of moves has no such move.
    """
    check_move(purchase.id, purchase.status, status)
    tx.connection.execute(
        update(t.purchases)
        .where(_p.id == purchase.id)
        .values(
            status=status.value,
            updated_at=now,
            reason_code=reason.code.value if reason else None,
            reason_message=reason.message if reason else None,
            stranded=None,
            **values,
        )
    )
    tx.record(
        now,
        f"purchase_{status}",
        purchase.id,
        before=purchase.status.value,
        code=reason.code.value if reason else None,
        why=reason.message if reason else None,
        **(said or {}),
    )


def end_unsigned(tx: Tx, purchase: Purchase, status: Status, why: Reason, now: int) -> None:
    """End a purchase that nothing was signed for; its hold is voided.

    LedgerTampered when the audit log tells that something was.
    """
    require_unsigned(tx, purchase.id)
    with tx.written():
        end_hold(tx, purchase.id, "purchase", spent=ZERO, now=now)
        move(tx, purchase, status, now, reason=why)
    held, agent = purchase.amount, purchase.agent
    tx.emit(ended("purchase", held=held, spent=ZERO, agent=agent, now=now, purchase_id=purchase.id))


def expire(tx: Tx, now: int) -> None:
    """Expire every approval whose time is over: at ``expires_at`` it is; the holds are voided."""
    first = tx.cache.first_expiry
    if first is None or first > now:
        return
    tx.flush()
    for row in tx.connection.execute(due(now)).all():
        purchase = read_purchase(tx, row.purchase_id)
        why = Reason(ReasonCode.EXPIRED, "nobody approved it in time")
        try:
            end_unsigned(tx, purchase, Status.EXPIRED, why, now)
        except LedgerTampered as fault:
            report_tampering(tx, purchase.id, fault.what, now=now)
            continue
        tx.notify([approval_expired(approval_fields(row.id, purchase, row.expires_at), now)])


def has_steps(tx: Tx, purchase_id: str) -> bool:
    """Whether anything was ever to be done for it on chain."""
    query = select(exists().where(t.steps.c.purchase_id == purchase_id))
    return bool(tx.connection.execute(query).scalar())


def is_in_flight(tx: Tx, purchase_id: str) -> bool:
    """Whether a transaction of it is about to be signed, or could still be mined."""
    query = select(
        exists().where(
            t.steps.c.purchase_id == purchase_id,
            t.steps.c.status.in_(("allocated", "signed")),
        )
    )
    return bool(tx.connection.execute(query).scalar())


def order_cancel(tx: Tx, purchase_id: str, *, by: str, now: int) -> None:
    """Note that its empty escrow is to be cancelled; the executor does it."""
    _order(tx, purchase_id, "cancel_wanted", now, by=by)


def order_settle(tx: Tx, purchase_id: str, *, by: str, now: int, **agreed: Any) -> None:
    """Note that it is to be settled early; the executor does it. ``agreed``: who approved it."""
    _order(tx, purchase_id, "settle_wanted", now, by=by, **agreed)


def stop_early_settling(tx: Tx, purchase_id: str, *, by: str, reason: str, now: int) -> None:
    """Note that it is contested: it is paid after its window, or when somebody orders it again."""
    later = case((_p.settle == "on_delivery", "after_window"), else_=_p.settle)
    tx.connection.execute(
        update(t.purchases)
        .where(_p.id == purchase_id)
        .values(settle=later, settle_wanted=0, updated_at=now)
    )
    tx.record(now, "purchase_contested", purchase_id, by=by, reason=reason)


def _order(tx: Tx, purchase_id: str, column: str, now: int, **said: Any) -> None:
    tx.connection.execute(
        update(t.purchases).where(_p.id == purchase_id).values({column: 1, "updated_at": now})
    )
    tx.record(now, column, purchase_id, **said)


def approval_fields(approval_id: str, purchase: Purchase, expires_at: int) -> dict[str, str]:
    """Return the fields of every notice about an approval."""
    return {
        "approval_id": approval_id,
        "purchase_id": purchase.id,
        "agent": purchase.agent or "",
        "provider": purchase.provider_name or purchase.provider,
        "amount": str(purchase.amount),
        "expires_at": rfc3339(expires_at) or "",
    }


def due(now: int) -> Select[Any]:
    """Purchases that wait for people and whose time is over."""
    return (
        select(t.approvals.c.id, t.approvals.c.purchase_id, t.approvals.c.expires_at)
        .join(t.purchases, _p.id == t.approvals.c.purchase_id)
        .where(_p.status == Status.AWAITING_APPROVAL.value, t.approvals.c.expires_at <= now)
    )
