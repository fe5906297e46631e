"""Have people decide a purchase again that was approved, and of which nothing was signed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update

from coordinator.domain.approval_notices import approval_waits_again
from coordinator.domain.purchase.approval import approval_id_of
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.ledger.spend.moves import move
from coordinator.ledger.spend.purchase_rows import insert_approval
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.signed import require_unsigned
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx

_a = t.approvals.c


def wait_again(tx: Tx, purchase_id: str, why: str, *, now: int) -> None:
    """Let an approved purchase wait for its approvers again; its hold stays, and they are told.

    Nothing happens to one that is not approved any more. LedgerTampered when the audit log tells
    that something was signed for it.
    """
    tx.flush()
    purchase = read_purchase(tx, purchase_id)
    if purchase.status is not Status.APPROVED:
        return
    require_unsigned(tx, purchase_id)
    rules = tx.policy.approvals
    row = tx.connection.execute(select(t.approvals).where(_a.purchase_id == purchase_id)).first()
    required = max(row.required if row else 0, rules.required_for(purchase.amount))
    approval: dict[str, Any] = {
        "id": approval_id_of(purchase_id),
        "required": required,
        "expires_at": now + rules.expires_after,
    }
    decisions = t.approval_decisions
    with tx.written() as connection:
        if row is None:
            insert_approval(tx, approval, purchase_id, created_at=now)
        else:
            connection.execute(delete(decisions).where(decisions.c.approval_id == row.id))
            connection.execute(update(t.approvals).where(_a.id == row.id).values(**approval))
        reason = Reason(ReasonCode.APPROVAL_REQUIRED, f"it has to be approved again: {why}")
        said = {"approval": approval}
        move(
            tx, purchase, Status.AWAITING_APPROVAL, now, reason=reason, said=said, approved_at=None
        )
        provider = purchase.provider_name or purchase.provider
        tx.notify(
            [
                approval_waits_again(
                    approval["id"], purchase.agent or "", provider, purchase.amount, why, now
                )
            ]
        )
