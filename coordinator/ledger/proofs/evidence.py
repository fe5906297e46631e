"""Evidence of a purchase, an order or a pause, read from the audit log.

A row of the database proves nothing: whoever can write to the database can write it. The rows of
the audit log are chained by a key that the database does not have, so each of them proves itself
together with the hash of the row before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase, LoggedState
from coordinator.ledger.proofs.row_proofs import EscrowKey, row_faults
from coordinator.ledger.store.database import Database


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of the log as an executor saw it, kept outside the database.

    ``rows`` is how many of its first ``count`` rows tell of each purchase and order that has not
    ended; what ended has no entry. It is not known of what began before row ``since``, or was
    ``reopened`` by a reorganisation. ``signed`` are the orders that ever were, ``paused`` the
    scopes that are, each as the log names it.
    """

    count: int = 0
    since: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()
    reopened: frozenset[str] = frozenset()

    def agrees(self, subject: str, rows: Sequence[AuditRow]) -> bool:
        """Return False when rows of the subject were cut out of the log since they were seen."""
        if not rows or rows[0].seq <= self.since or subject in self.reopened:
            return True
        return sum(row.seq <= self.count for row in rows) == self.rows.get(subject, 0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Reads proofs in the caller's transaction; LedgerTampered where there is none."""

    audit: AuditLog
    escrow_key: EscrowKey

    def purchase(
        self, connection: Connection, purchase_id: str, seen: Seen | None = None
    ) -> LoggedPurchase:
        """Return the purchase as the log tells it, with its escrow key."""
        past = self._fold(connection, purchase_id, seen).purchases.get(purchase_id)
        if past is None:
            raise LedgerTampered(f"purchase {purchase_id} is not in the audit log")
        if past.escrow_key is None and past.agent is not None:
            past.escrow_key = self.escrow_key(past.agent, past.idempotency_key or "")
        return past

    def order(self, connection: Connection, order_id: str, seen: Seen | None = None) -> LoggedOrder:
        """Return the order as the log tells it."""
        past = self._fold(connection, order_id, seen).orders.get(order_id)
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

    def _fold(self, connection: Connection, subject: str, seen: Seen | None) -> LoggedState:
        past, rows = LoggedState(), self.audit.proven(connection, subject)
        if seen is not None and not seen.agrees(subject, rows):
            raise LedgerTampered(f"rows of the audit log about {subject} are gone")
        for row in rows:
            past.take(row)
        return past
