"""Transactions of one ledger, each a ``Tx``: writes of their own, and snapshots."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from coordinator.domain.observed import Emit, Event, nobody_looks
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.cache import DecisionCache
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import Tx, TxUrl

log = logging.getLogger(__name__)


class Transactions:
    """Opens transactions; what they gather is written, and told, in the same way everywhere."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        policies: PolicyBook,
        tx_url: TxUrl,
        emit: Emit = nobody_looks,
    ) -> None:
        self.database = database
        self.audit = audit
        self.policies = policies
        self.emit = emit
        self._tx_url = tx_url

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """One write transaction, committed at the end; on any exception nothing is written."""
        with self.database.write() as connection:
            tx = self.begin(connection)
            yield tx
            self.flush(tx)
        self.tell(tx.events)

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """One snapshot; it waits for nobody, and nothing of it is written."""
        with self.database.read() as connection:
            yield self.begin(connection)

    def begin(self, connection: Connection, cache: DecisionCache | None = None) -> Tx:
        """Wrap a transaction of the database; without a ``cache`` everything is read anew."""
        cache = cache or DecisionCache(connection, self.policies, {})
        return Tx(connection, self.audit, cache, self._tx_url)

    def flush(self, tx: Tx) -> None:
        """Write the last of what was gathered, sent together, before the commit."""
        with self.database.in_one_go(tx.connection):
            tx.flush()

    def tell(self, events: Iterable[Event]) -> None:
        """Tell observers of the commit; a fault of theirs must not look like one of the work."""
        try:
            for event in events:
                self.emit(event)
        except Exception:
            log.exception("events_not_told")
