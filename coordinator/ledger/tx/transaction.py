"""One write transaction, as whoever decides something sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from coordinator.domain.audit import AuditRow
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.limits.rules import Opening, Rules
from coordinator.domain.notices import Notice, crossings
from coordinator.domain.observed import Event
from coordinator.domain.policy.policy import Policy
from coordinator.domain.typed_data import Trust
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.log import AuditEntry, AuditLog
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.cache import DecisionCache
from coordinator.ledger.tx.facts import TreasuryState
from coordinator.ledger.tx.notices import write_notices

TxUrl = Callable[[str], str]


class Tx:
    """One write transaction of several pieces of work, which see what those before them did.

    Rows, counters and audit rows are gathered and written by ``flush``, each table at once.
    """

    def __init__(
        self, connection: Connection, audit: AuditLog, cache: DecisionCache, tx_url: TxUrl
    ) -> None:
        self.connection = connection
        # The page of a chain's transaction, for whoever is shown a purchase.
        self.tx_url = tx_url
        # What pieces of work leave for those after them, by a key of their own.
        self.notes: dict[Any, Any] = {}
        self.cache = cache
        self.sheet = cache.sheet
        self.audit = audit
        self._rows: dict[Prepared, list[Mapping[str, Any]]] = {}
        self._dependent: dict[Prepared, list[Mapping[str, Any]]] = {}
        self._entries: list[AuditEntry] = []
        self._notices: list[Notice] = []
        self.events: list[Event] = []
        self.wrote = False
        cache.use(connection)

    @property
    def rules(self) -> Rules:
        return self.cache.rules

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.cache.rules.policy

    @property
    def treasury_state(self) -> TreasuryState:
        """Pauses, balances and what is promised, with what was promised in this transaction."""
        return self.cache.treasury_state

    @property
    def trust(self) -> Trust | None:
        """The treasury, chain and kernel that signatures are for; None before there is one."""
        return self.audit.hosts.trust(self.connection)

    def opening(self, kind: str, name: str) -> Opening | None:
        """The task or session if it was opened by name."""
        return self.cache.opening(kind, name)

    def insert(self, statement: Prepared, values: Mapping[str, Any]) -> None:
        """Write the row with the others of its statement."""
        self._rows.setdefault(statement, []).append(values)

    def insert_dependent(self, statement: Prepared, values: Mapping[str, Any]) -> None:
        """Write a row that refers to others, after them."""
        self._dependent.setdefault(statement, []).append(values)

    def record(self, at: int, event: str, subject: str, **body: Any) -> None:
        """Append to the audit log."""
        self._entries.append(AuditEntry.of(at, event, subject, body))

    def proven(self, *subjects: str, **which: Any) -> list[AuditRow]:
        """Return rows of the audit log as ``AuditLog.proven`` does, this transaction's too."""
        self.flush()
        return self.audit.proven(self.connection, *subjects, **which)

    def notify(self, notices: Iterable[Notice]) -> None:
        """Have people told, after the commit."""
        self._notices += notices

    def notify_crossings(self, limits: Iterable[LimitState], amount: Usdc, now: int) -> None:
        """Have people told of each threshold of ``limits`` that ``amount`` more reaches."""
        self.notify(crossings(limits, amount, self.rules.policy.alerts.thresholds, now))

    def emit(self, *events: Event) -> None:
        """Have observers told, after the commit."""
        self.events += events

    def flush(self) -> None:
        """Write what was gathered; what is read afterwards sees it."""
        self.sheet.flush()
        for gathered in (self._rows, self._dependent):
            for statement, values in gathered.items():
                statement.each(self.connection, values)
            gathered.clear()
        if self._entries:
            self.cache.tail = self.audit.append_all(self.connection, self._entries, self.cache.tail)
            self._entries.clear()
            self.wrote = True
        notices, self._notices = self._notices, []
        write_notices(self.connection, notices)

    @contextmanager
    def written(self) -> Iterator[Connection]:
        """Write what was gathered, and read anew afterwards what the block changes by SQL."""
        self.flush()
        yield self.connection
        self.cache.forget()

    def forget(self) -> None:
        """Write, and read again what others in this transaction change."""
        self.flush()
        self.cache.forget()

    def reread_rules(self) -> None:
        """See the overlays that were written in this transaction."""
        self.cache.reread_rules()
