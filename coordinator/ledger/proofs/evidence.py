"""Evidence of a purchase, an order or a pause, read from the audit log.

A row of the database proves nothing: whoever can write to the database can write it. The rows of
the audit log are chained by a key that the database does not have, so each of them proves itself
together with the hash of the row before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import Connection

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.audit.scan import Scan
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase, LoggedState
from coordinator.ledger.proofs.logged_proposal import LoggedProposal
from coordinator.ledger.proofs.row_proofs import EscrowKey, row_faults
from coordinator.ledger.store.database import Database

_WISHES: Final = frozenset({"settle_wanted", "dispute_wanted"})


class SafeWord(NamedTuple):
    """A signature of a Safe, and the 32 bytes that it is of."""

    safe: str
    digest: bytes
    signature: str


class Unasked(NamedTuple):
    """A purchase that was paid without people: whose, when it was asked, and base units."""

    agent: str
    at: int
    units: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of the log as an executor saw it, kept outside the database.

    ``rows`` is how many of its first ``count`` rows tell of each purchase and order that has not
    ended; what ended has no entry. It is not known of what began before row ``since``, or was
    ``reopened`` by a reorganisation. ``signed`` are the orders that ever were, ``paused`` the
    scopes that are, each as the log names it; ``revoked`` the hosts that were.
    """

    count: int = 0
    since: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    signed: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()
    reopened: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()
    #: The policy that approvers signed, where the worker pins them: it believes no other.
    policy: Policy | None = None
    pinned: bool = False
    #: Until when or why ``policy`` is believed while another is in force; else empty.
    behind: str = ""
    #: What was signed of late that nobody was asked about, by purchase.
    unasked: Mapping[str, Unasked] = field(default_factory=dict)
    #: The worker's own account for HTTP requests, and the base units that top-ups of the last 24
    #: hours sent there.
    wallet: str | None = None
    topped: int = 0
    #: What may still be signed within the worker's own limits, in base units; None: no limit.
    room: int | None = None
    #: The chain's answers about signatures of Safes, at the newest block.
    safes: Mapping[SafeWord, bool] = field(default_factory=dict)

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
        past = self.purchases(connection, [purchase_id], seen)[purchase_id]
        if isinstance(past, LedgerTampered):
            raise past
        return past

    def purchases(
        self, connection: Connection, ids: Iterable[str], seen: Seen | None = None
    ) -> Mapping[str, LoggedPurchase | LedgerTampered]:
        """Return each purchase as ``purchase`` does, or what it would raise, in few reads."""
        told = self.audit.proven_each(connection, ids)
        try:
            revoked = self._revoked(connection, seen)
        except LedgerTampered as fault:
            return dict.fromkeys(told, fault)
        return {of: self._purchase(of, rows, revoked, seen) for of, rows in told.items()}

    def order(self, connection: Connection, order_id: str, seen: Seen | None = None) -> LoggedOrder:
        """Return the order as the log tells it."""
        rows = self.audit.proven(connection, order_id)
        past = _fold(order_id, rows, seen).orders.get(order_id)
        if past is None:
            raise LedgerTampered(f"order {order_id} is not in the audit log")
        past.doubts = _doubts(rows, self._revoked(connection, seen))
        return past

    def proposal(self, connection: Connection, proposal_id: str) -> LoggedProposal | None:
        """Return the proposal as the log tells it; None where it tells of none."""
        return LoggedProposal.of(self.audit.proven(connection, proposal_id))

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
            scan = Scan(self.audit, connection)
            return [*row_faults(connection, scan, self.escrow_key), *scan.end()]

    def _purchase(
        self,
        purchase_id: str,
        rows: Sequence[AuditRow] | LedgerTampered,
        revoked: Set[str],
        seen: Seen | None,
    ) -> LoggedPurchase | LedgerTampered:
        if isinstance(rows, LedgerTampered):
            return rows
        try:
            past = _fold(purchase_id, rows, seen).purchases.get(purchase_id)
        except LedgerTampered as fault:
            return fault
        if past is None:
            return LedgerTampered(f"purchase {purchase_id} is not in the audit log")
        if past.escrow_key is None and past.agent is not None:
            past.escrow_key = self.escrow_key(past.agent, past.idempotency_key or "")
        past.doubts = _doubts(rows, revoked)
        return past

    def _revoked(self, connection: Connection, seen: Seen | None) -> Set[str]:
        """Return the hosts that were revoked; LedgerTampered when one that was is not any more."""
        hosts = self.audit.hosts.all(connection)
        revoked = {host.id for host in hosts.values() if host.revoked}
        if seen is not None and not seen.revoked <= revoked:
            lost = ", ".join(sorted(seen.revoked - revoked))
            raise LedgerTampered(f"the revocation of host {lost} is gone")
        return revoked


def _fold(subject: str, rows: Sequence[AuditRow], seen: Seen | None) -> LoggedState:
    if seen is not None and not seen.agrees(subject, rows):
        raise LedgerTampered(f"rows of the audit log about {subject} are gone")
    past = LoggedState()
    for row in rows:
        past.take(row)
    return past


def _doubts(rows: Sequence[AuditRow], revoked: Set[str]) -> Mapping[str, str]:
    """By event, the host of a row that was revoked since; a wish that was repeated has none."""
    doubts = {row.event: row.host for row in rows if row.host in revoked}
    repeated = {row.event for row in rows if row.event in _WISHES and row.host not in revoked}
    return {event: host for event, host in doubts.items() if event not in repeated}
