"""Escrows as the ledger's rows have them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t

_e = t.escrows.c


@dataclass(frozen=True, slots=True)
class EscrowRow:
    """An escrow of ours as the ledger knows it.

    A payment for an HTTP request has its nonce as id and key, and is ``requester``'s.
    """

    escrow_id: str
    escrow_key: str | None
    purchase_id: str | None
    provider: str
    amount: Usdc
    state: EscrowState
    requester: str | None = None

    @property
    def is_payment(self) -> bool:
        return self.escrow_id == self.escrow_key


def read_escrows(connection: Connection, *, unknown: bool = False) -> list[EscrowRow]:
    """Read escrows, oldest first; ``unknown``: those that no agent asked for."""
    query = select(t.escrows).order_by(_e.seq)
    if unknown:
        unasked = select(t.purchases.c.id).where(t.purchases.c.agent.is_(None))
        query = query.where(_e.purchase_id.is_(None) | _e.purchase_id.in_(unasked))
    return [
        EscrowRow(
            row.escrow_id,
            row.escrow_key,
            row.purchase_id,
            row.provider,
            Usdc.from_base_units(row.amount),
            EscrowState(row.state),
            row.requester,
        )
        for row in connection.execute(query)
    ]
