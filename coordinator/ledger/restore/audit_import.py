"""Import an audit export into a fresh database, in one transaction, before the chain is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.errors import ConfigurationError
from coordinator.ledger.audit.export import ExportFile
from coordinator.ledger.chain.nonce_lane import open_lane
from coordinator.ledger.limits.logged_budgets import put_rules
from coordinator.ledger.proofs.audit_fold import LoggedState
from coordinator.ledger.proofs.row_proofs import EscrowKey
from coordinator.ledger.spend.restored_costs import put_costs
from coordinator.ledger.spend.restored_purchases import put_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import begin_recovery
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_AT_ONCE: Final = 1000
_SUBJECT: Final = "audit"
# What a fresh database may say of itself before an export is put in.
_OF_HOSTS: Final = frozenset({"host_added", "host_revoked"})
_OWN: Final = _OF_HOSTS | {"policy_activated", "paused", "unpaused", "lane_opened"}
_USED: Final[tuple[Table, ...]] = (t.purchases, t.cursors, t.steps, t.orders)
_LOST_ORDER: Final = (
    "the database was lost before this was known to be carried out: order it again if it was not"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: ``unattributed`` purchases are known by the chain alone."""

    head: Head
    purchases: int
    unattributed: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "audit_head": str(self.head),
            "purchases": self.purchases,
            "unattributed": self.unattributed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebirth:
    """The chain's state when the database was rebuilt, and each signer's count of transactions."""

    start_block: int
    final_number: int
    nonces: Mapping[str, int]
    now: int


class AuditImport:
    """Puts what only the lost database knew back, as its audit log tells it."""

    def __init__(self, transactions: Transactions, escrow_key: EscrowKey) -> None:
        self._transactions = transactions
        self._escrow_key = escrow_key

    def done(self) -> Imported | None:
        """Return the import into this database; None when there was none."""
        query = select(t.audit.c.body).where(
            t.audit.c.subject == _SUBJECT, t.audit.c.event == "audit_imported"
        )
        with self._transactions.read() as tx:
            newest = query.order_by(t.audit.c.seq.desc()).limit(1)
            text = tx.connection.execute(newest).scalar()
        if text is None:
            return None
        body = json.loads(text)
        head = Head.parse(body["audit_head"])
        return Imported(head, body["purchases"], body["unattributed"])

    def carry_out(self, export: ExportFile, at: Rebirth) -> Imported:
        """Keep the old rows, go on from them, and put purchases back so that none is created.

        Those that ended unfunded stay as they were. All others have failed, or expired, and hold
        their amount until everything that is final now was read: what the chain knows of them
        overrules that. Costs, tasks, sessions and what lay over the policy are as they were.
        Spending is paused. InvalidRequest when the file is wrong and
        ConfigurationError when the database is not fresh: then nothing is written.
        """
        with self._transactions.write() as tx:
            connection = tx.connection
            own = _own_rows(connection)
            connection.execute(delete(t.audit))
            # This host certifies itself again, after the hosts of the lost database.
            connection.execute(delete(t.hosts))
            connection.execute(delete(t.seals))
            if export.signers.hosts:
                connection.execute(insert(t.hosts), list(export.signers.hosts))
            if export.signers.seals:
                connection.execute(insert(t.seals), list(export.signers.seals))
            past = LoggedState()
            for part in _parts(export.rows):
                connection.execute(insert(t.audit), [_values(row) for row in part])
                for row in part:
                    past.take(row)
            _check_start(past, at.start_block)
            for row in (row for row in own if row.event not in _OF_HOSTS):
                tx.record(row.at, row.event, row.subject, **row.body)
            found = Imported(
                export.head,
                purchases=len(past.purchases),
                unattributed=sum(one.agent is None for one in past.purchases.values()),
            )
            _begin(tx, found, at)
            put_rules(connection, past.budgets)
            tx.forget()
            tx.reread_rules()
            self._put(tx, past, at)
        return found

    def _put(self, tx: Tx, past: LoggedState, at: Rebirth) -> None:
        connection = tx.connection
        put_costs(tx, past.budgets)
        for purchase in past.purchases.values():
            if purchase.escrow_key is None:
                assert purchase.agent is not None and purchase.idempotency_key is not None
                purchase.escrow_key = self._escrow_key(purchase.agent, purchase.idempotency_key)
            put_purchase(tx, purchase, final_number=at.final_number, now=at.now)
            tx.flush()
        _put_orders(tx, past, at.now)
        _put_pauses(connection, past)
        for discrepancy_id, (body, when) in past.explanations.items():
            connection.execute(
                insert(t.explanations).values(
                    discrepancy_id=discrepancy_id, by=body["by"], reason=body["reason"], at=when
                )
            )


def _begin(tx: Tx, found: Imported, at: Rebirth) -> None:
    tx.record(at.now, "audit_imported", _SUBJECT, **found.as_dict())
    # The journal is made anew from the chain: what old rows say of it holds no longer.
    tx.record(at.now, "journal_rolled_back", "journal", to=-1, to_hash="", entries=0)
    for signer, nonce in at.nonces.items():
        open_lane(tx, signer, nonce, now=at.now)
    why = "rebuilt from the chain and an audit export: check it, then unpause"
    begin_recovery(tx, why, now=at.now)


def _put_orders(tx: Tx, past: LoggedState, now: int) -> None:
    for order in past.orders.values():
        lost = order.status == "approved"
        tx.connection.execute(
            insert(t.orders).values(
                id=order.id,
                kind=order.kind,
                recipient=order.body["recipient"],
                amount=order.body["amount"],
                by=order.body["by"],
                reason=order.body["reason"],
                status="failed" if lost else order.status,
                created_at=order.created_at,
                message=_LOST_ORDER if lost else order.message,
            )
        )
        if lost:
            tx.record(now, "order_failed", order.id, why=_LOST_ORDER)


def _own_rows(connection: Connection) -> list[AuditRow]:
    """The few rows of a fresh database; ConfigurationError when it has more."""
    rows = [AuditRow(*row) for row in connection.execute(select(t.audit).order_by(t.audit.c.seq))]
    used = any(
        connection.execute(select(func.count()).select_from(table)).scalar() for table in _USED
    )
    if used or not {row.event for row in rows} <= _OWN:
        raise ConfigurationError(
            "an audit export is put into a fresh database only; this one was used: use another"
            " COORDINATOR_DATABASE_URL"
        )
    return rows


def _check_start(past: LoggedState, start_block: int) -> None:
    begins = max(0, start_block - 1)
    if past.opened_at is not None and begins > past.opened_at:
        raise ConfigurationError(
            f"the export's journal begins after block {past.opened_at}, and this one would after"
            f" {begins}: set COORDINATOR_START_BLOCK to {past.opened_at + 1}, or what was paid"
            " between them would be missing"
        )


def _put_pauses(connection: Connection, past: LoggedState) -> None:
    for (kind, of), (body, when) in past.pauses.items():
        if kind != "organisation":
            connection.execute(
                insert(t.pauses).values(
                    scope_kind=kind, scope_id=of, reason=body["reason"], by=body["by"], at=when
                )
            )


def _parts(rows: Iterator[AuditRow]) -> Iterator[list[AuditRow]]:
    while part := list(islice(rows, _AT_ONCE)):
        yield part


def _values(row: AuditRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "at": row.at,
        "event": row.event,
        "subject": row.subject,
        "body": row.text,
        "hash": row.hash,
        "host": row.host,
        "signature": row.signature,
    }
