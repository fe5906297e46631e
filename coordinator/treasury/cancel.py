"""Cancel a purchase."""

from __future__ import annotations

from coordinator.domain.purchase.lifecycle import Status, authorised_until, may_not_cancel
from coordinator.domain.purchase.purchase import Answer
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.ledger.spend.moves import (
    end_unsigned,
    expire,
    has_steps,
    is_in_flight,
    order_cancel,
)
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.tx.transaction import Tx


def cancel(tx: Tx, purchase_id: str, *, by: str, now: int) -> Answer:
    """Cancel a purchase with nothing signed, or order its empty escrow to be cancelled."""
    expire(tx, now)
    purchase = read_purchase(tx, purchase_id)
    if purchase.status is Status.CANCELLED:
        return Answer(True, purchase)
    if purchase.x402 is not None and purchase.x402.valid_before is not None:
        return Answer(False, purchase, authorised_until(purchase.x402.valid_before))
    refusal = may_not_cancel(purchase.status, in_flight=is_in_flight(tx, purchase.id))
    if refusal is not None:
        return Answer(False, purchase, refusal)
    if has_steps(tx, purchase.id):
        order_cancel(tx, purchase.id, by=by, now=now)
    else:
        why = Reason(ReasonCode.CANCELLED, f"cancelled by {by}")
        end_unsigned(tx, purchase, Status.CANCELLED, why, now)
    return Answer(True, read_purchase(tx, purchase.id))
