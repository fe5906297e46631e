"""Note that nobody here can end a purchase."""

from __future__ import annotations

from sqlalchemy import select, update

from coordinator.domain.notices import stranded
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c


def strand(tx: Tx, purchase_id: str, message: str | None, *, now: int) -> None:
    """Keep, or clear, why nobody here can end the purchase, and tell people; again, nothing."""
    before = tx.connection.execute(select(_p.stranded).where(_p.id == purchase_id)).scalar()
    if before == message:
        return
    tx.connection.execute(update(t.purchases).where(_p.id == purchase_id).values(stranded=message))
    event = "purchase_stranded" if message else "purchase_unstranded"
    tx.record(now, event, purchase_id, why=message)
    tx.notify([stranded(purchase_id, message, now)])
