"""What the audit log proves of a purchase, an order or a pause, for whoever relies on a row.

A row of the database proves nothing: whoever can write to the database can write it. The rows of
the audit log are chained by a key that the database does not have, so each of them proves itself
together with the hash of the row before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.audit import AuditLog
from coordinator.ledger.audit_fold import Past, PastOrder, PastPurchase
from coordinator.ledger.database import Database
from coordinator.ledger.row_proofs import EscrowKey, row_faults


@dataclass(frozen=True, slots=True)
class Evidence:
    """Reads proofs in the caller's transaction; LedgerTampered where there is none."""

    audit: AuditLog
    escrow_key: EscrowKey

    def purchase(self, connection: Connection, purchase_id: str) -> PastPurchase:
        """Return the purchase as the log tells it, with its escrow key."""
        past = self._fold(connection, purchase_id).purchases.get(purchase_id)
        if past is None:
            raise LedgerTampered(f"purchase {purchase_id} is not in the audit log")
        if past.escrow_key is None and past.agent is not None:
            past.escrow_key = self.escrow_key(past.agent, past.idempotency_key or "")
        return past

    def order(self, connection: Connection, order_id: str) -> PastOrder:
        """Return the order as the log tells it."""
        past = self._fold(connection, order_id).orders.get(order_id)
        if past is None:
            raise LedgerTampered(f"order {order_id} is not in the audit log")
        return past

    def is_paused(self, connection: Connection, scope: tuple[str, str]) -> bool:
        """Whether the log's newest word on the scope, (kind, id), is a pause."""
        kind, of = scope
        newest = self.audit.proven(
            connection, f"{kind}:{of}" if of else kind, events=("paused", "unpaused"), newest=1
        )
        return bool(newest) and newest[-1].event == "paused"

    def row_faults(self, database: Database) -> list[str]:
        """Name every row that is not what the log tells, escrow keys included."""
        with database.read() as connection:
            return list(row_faults(connection, self.audit, self.escrow_key))

    def _fold(self, connection: Connection, subject: str) -> Past:
        past = Past()
        for row in self.audit.proven(connection, subject):
            past.take(row)
        return past
