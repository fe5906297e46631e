"""Moves of a purchase that happen without the chain, each with its audit row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, select, update

from coordinator.domain.errors import LedgerTampered
from coordinator.domain.notices import approval_expired
from coordinator.domain.observed import Event, ended
from coordinator.domain.purchase.lifecycle import Status, check_move
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.limits.counters import end_hold
from coordinator.ledger.proofs.signed import require_unsigned
from coordinator.ledger.spend.reading import TxUrl, load_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.notices import write_notices
from coordinator.ledger.tx.pausing import report_tampering

_p = t.purchases.c


def move(
    connection: Connection,
    audit: AuditLog,
    purchase: Purchase,
    status: Status,
    now: int,
    *,
    reason: Reason | None = None,
    said: Mapping[str, Any] | None = None,
    **values: int,
) -> None:
    """Move the purchase to ``status``; ``said`` goes into its audit row.

    ImpossibleState when the table of moves has no such move.
    """
    check_move(purchase.id, purchase.status, status)
    connection.execute(
        update(t.purchases)
        .where(_p.id == purchase.id)
        .values(
            status=status.value,
            updated_at=now,
            reason_code=reason.code.value if reason else None,
            reason_message=reason.message if reason else None,
            **values,
        )
    )
    audit.append(
        connection,
        now,
        f"purchase_{status}",
        purchase.id,
        before=purchase.status.value,
        code=reason.code.value if reason else None,
        why=reason.message if reason else None,
        **(said or {}),
    )


def end_unsigned(
    connection: Connection,
    audit: AuditLog,
    purchase: Purchase,
    status: Status,
    why: Reason,
    now: int,
) -> Event:
    """End a purchase that nothing was signed for; its hold is voided, which observers are told.

    LedgerTampered when the audit log tells that something was.
    """
    require_unsigned(connection, audit, purchase.id)
    end_hold(connection, purchase.id, "purchase", spent=ZERO, now=now)
    move(connection, audit, purchase, status, now, reason=why)
    amount, agent = purchase.amount, purchase.agent
    return ended("purchase", held=amount, spent=ZERO, agent=agent, now=now, purchase_id=purchase.id)


def expire(connection: Connection, audit: AuditLog, tx_url: TxUrl, now: int) -> list[Event]:
    """Expire every approval whose time is over: at ``expires_at`` it is; the holds voided."""
    voided = []
    for row in connection.execute(due(now)).all():
        purchase = load_purchase(connection, tx_url, row.purchase_id)
        assert purchase is not None
        why = Reason(ReasonCode.EXPIRED, "nobody approved it in time")
        try:
            voided.append(end_unsigned(connection, audit, purchase, Status.EXPIRED, why, now))
        except LedgerTampered as fault:
            report_tampering(connection, audit, purchase.id, fault.what, now=now)
            continue
        fields = approval_fields(row.id, purchase, row.expires_at)
        write_notices(connection, [approval_expired(fields, now)])
    return voided


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
