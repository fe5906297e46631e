"""Group commit: pieces of work that wait at the same time share one transaction and one sync."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from coordinator.domain.errors import CommitUnknown, LedgerTampered, LedgerUnavailable
from coordinator.domain.limits.limits import CounterKey
from coordinator.ledger.limits.counters import CounterSheet
from coordinator.ledger.tx.cache import DecisionCache
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

WORK_MAX: Final = 128
_IDS_MAX: Final = 50_000
_INTERRUPTED: Final = (
    "the caller that wrote for several was interrupted: this may or may not have been written; ask"
    " again with the same idempotency key"
)

T = TypeVar("T")


class _Ticket(Generic[T]):
    def __init__(self, work: Callable[[Tx], T]) -> None:
        self.work = work
        # Held until its owner is called: to write for all that wait, or because it is done.
        # A lock, for an event takes several times as long to wait for.
        self.gate = threading.Lock()
        self.gate.acquire()
        self.writes = False
        self.done = False
        self.result: T | None = None
        self.fault: BaseException | None = None


class GroupCommit:
    """Run work in the order in which it came; whoever comes first commits for all that wait.

    Work changes nothing before it knows that it will not raise; if it does all the same, the
    transaction is undone and every piece of it runs alone.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._ids: dict[CounterKey, int] = {}
        # The cache as of the last commit, with the stamp that the commit left.
        self._kept: tuple[Hashable, DecisionCache] | None = None
        self._mutex = threading.Lock()
        self._waiting: deque[_Ticket[Any]] = deque()
        self._writing = False

    def run(self, work: Callable[[Tx], T]) -> T:
        """Run ``work``; its result after the commit. If it raises, nothing of it is written.

        LedgerUnavailable when the database can't be written, CommitUnknown when it may have been.
        """
        self._database.check()
        ticket = _Ticket(work)
        try:
            with self._mutex:
                self._waiting.append(ticket)
                ticket.writes, self._writing = not self._writing, True
            if not ticket.writes:
                ticket.gate.acquire()
            if not ticket.done:
                self._write_for_all(ticket)
        except BaseException:
            self._leave(ticket)
            raise
        if ticket.fault is not None:
            raise ticket.fault
        return ticket.result  # type: ignore[return-value]

    def read(self, work: Callable[[Tx], T]) -> T:
        """Return what ``work`` finds in one snapshot; it waits for nobody, and writes nothing."""
        with self._transactions.read() as tx:
            return work(tx)

    def _leave(self, ticket: _Ticket[Any]) -> None:
        """Wait no longer; whoever was to write lets another do it."""
        if not self._database.here():
            return
        with self._mutex:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                if ticket.writes:
                    self._call_one()

    def _write_for_all(self, own: _Ticket[Any]) -> None:
        tickets: list[_Ticket[Any]] = []
        try:
            with self._mutex:
                while self._waiting and len(tickets) < WORK_MAX:
                    tickets.append(self._waiting.popleft())
            self._write(tickets)
        except Exception as fault:
            for ticket in tickets:
                ticket.fault = ticket.fault or fault
        except BaseException:
            # This thread is stopped; the others only learn that their writer is gone.
            for ticket in tickets:
                ticket.fault = CommitUnknown(_INTERRUPTED)
            own.fault = None
            raise
        finally:
            # In a forked child nobody waits, and who held the mutex is not there to give it back.
            if self._database.here():
                self._end(own, tickets)

    def _end(self, own: _Ticket[Any], tickets: list[_Ticket[Any]]) -> None:
        with self._mutex:
            if own in self._waiting:
                self._waiting.remove(own)
            self._call_one()
        for ticket in tickets:
            ticket.done = True
            if ticket is not own:
                ticket.gate.release()

    def _call_one(self) -> None:
        if self._waiting:
            first = self._waiting[0]
            first.writes = True
            first.gate.release()
        else:
            self._writing = False

    def _write(self, tickets: list[_Ticket[Any]]) -> None:
        try:
            self._commit(tickets)
        except Exception as fault:
            # A row that one of them names and nobody wrote is no reason to refuse the others.
            refused = isinstance(fault, LedgerUnavailable) and not isinstance(fault, LedgerTampered)
            if refused or len(tickets) == 1:
                raise
            for ticket in tickets:
                try:
                    self._commit([ticket])
                except Exception as fault:
                    ticket.fault = fault

    def _commit(self, tickets: list[_Ticket[Any]]) -> None:
        kept, self._kept = self._kept, None
        with self._database.write() as connection:
            stamp = self._database.stamp(connection)
            if kept is not None and kept[0] == stamp.before:
                cache = kept[1]
            else:
                cache = DecisionCache(connection, self._transactions.policies, self._ids)
            tx = self._transactions.begin(connection, cache)
            for ticket in tickets:
                ticket.result = ticket.work(tx)
            self._transactions.flush(tx)
        # What wrote nothing was not synced either: a server that crashes may give its number again.
        if stamp.after is not None and tx.wrote:
            self._kept = stamp.after, cache
        self._remember(cache.sheet)
        self._transactions.tell(tx.events)

    def _remember(self, sheet: CounterSheet) -> None:
        if len(self._ids) > _IDS_MAX:
            self._ids.clear()
        self._ids.update(sheet.made)
        sheet.made.clear()
