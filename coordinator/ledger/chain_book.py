"""The chain as the ledger follows it: escrows, journal, cursor, and the ends of holds."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from coordinator.domain.chain_events import (
    EMPTY,
    Block,
    ChainEvent,
    EscrowState,
    EventBatch,
)
from coordinator.domain.journal import TREASURY, Entry, EntryKind, KnownEscrow, make_entries
from coordinator.domain.planning import OpenPurchase, OwnEscrow
from coordinator.domain.purchase import FINAL, Status
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger import schema as t
from coordinator.ledger.audit import AuditLog, entries_digest
from coordinator.ledger.bonds import bond_lost
from coordinator.ledger.counters import end_hold
from coordinator.ledger.database import Database
from coordinator.ledger.following import apply_event
from coordinator.ledger.policies import PolicyBook
from coordinator.ledger.reading import sums_of_escrows
from coordinator.ledger.steps import StepBook

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c
_BOOKS = "books"


@dataclass(frozen=True, slots=True)
class KnownEscrowRow:
    """An escrow of ours as the ledger knows it."""

    escrow_id: str
    escrow_key: str | None
    purchase_id: str | None
    provider: str
    amount: Usdc
    state: EscrowState


class ChainBook:
    """Applies events exactly once: entries, states and cursor change in one transaction."""

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        policies: PolicyBook,
        steps: StepBook,
        *,
        treasury: str,
        vault: str,
    ) -> None:
        self._database = database
        self._audit = audit
        self._policies = policies
        self._steps = steps
        self._treasury = treasury
        self._vault = vault

    def cursor(self) -> Block | None:
        """The last block whose events are in the books; None before the opening."""
        with self._database.read() as connection:
            return _cursor(connection)

    def open(self, block: Block, balance: Usdc, *, now: int) -> None:
        """Begin the journal after ``block`` with what the treasury held in it."""
        entry = Entry(
            block_number=block.number,
            block_hash=block.hash,
            log_index=-1,
            tx_hash="",
            at=block.at,
            kind=EntryKind.OPENING,
            debit=TREASURY,
            credit="opening",
            amount=balance,
        )
        with self._database.write() as connection:
            if _cursor(connection) is not None:
                return
            _set_cursor(connection, block)
            self._write_entries(connection, [entry], block.number - 1, block, now)

    def apply(self, batch: EventBatch, *, adopt_unknown: bool = False, now: int) -> bool:
        """Put a batch into the books; False, and nothing written, if the cursor has moved on.

        ``adopt_unknown`` gives funded escrows of ours that no purchase knows a purchase without
        an agent, counted against the organisation (after a lost database).
        """
        with self._database.write() as connection:
            cursor = _cursor(connection)
            if cursor is None or (cursor.number, cursor.hash) != (batch.after, batch.after_hash):
                return False
            adopting = self._policies.in_force(connection) if adopt_unknown else None
            moved = [
                apply_event(connection, self._audit, event, adopting, now) for event in batch.events
            ]
            entries = make_entries(
                batch.events,
                treasury=self._treasury,
                vault=self._vault,
                known=self._known(connection, batch.events),
                bonds=self._open_bonds(connection),
            )
            if entries:
                self._write_entries(connection, entries, batch.after, batch.to, now)
            _set_cursor(connection, batch.to)
        for message in filter(None, moved):
            log.info(message)
        return True

    def end_holds(self, final_number: int, *, now: int) -> int:
        """Post or void the holds of purchases whose ending is at or below ``final_number``."""
        due = (
            select(t.holds.c.kind, t.holds.c.purchase_id)
            .join(t.purchases, _p.id == t.holds.c.purchase_id)
            .where(
                t.holds.c.status == "held",
                _p.status.in_([status.value for status in FINAL]),
                _p.ended_at_block.is_not(None),
                _p.ended_at_block <= final_number,
            )
        )
        with self._database.read() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            rows = connection.execute(due).all()
            for row in rows:
                spent = (
                    self._spent(connection, row.purchase_id)
                    if row.kind == "purchase"
                    else bond_lost(connection, row.purchase_id)
                )
                end_hold(connection, row.purchase_id, row.kind, spent=spent, now=now)
                self._audit.append(
                    connection,
                    now,
                    "hold_posted" if spent else "hold_voided",
                    row.purchase_id,
                    kind=row.kind,
                    amount=spent.base_units,
                )
            return len(rows)

    def open_purchases(self) -> list[OpenPurchase]:
        """Approved purchases and escrows in progress, with steps and escrows, oldest first."""
        statuses = [
            status.value
            for status in Status
            if status not in FINAL and status is not Status.AWAITING_APPROVAL
        ]
        leftover = select(_e.purchase_id).where(
            _e.state.in_([state.value for state in EMPTY]), _e.purchase_id.is_not(None)
        )
        query = (
            select(t.purchases)
            .where(_p.status.in_(statuses) | _p.id.in_(leftover))
            .order_by(_p.seq)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            ids = [row.id for row in rows]
            escrows = defaultdict(list)
            own = select(t.escrows).where(_e.purchase_id.in_(ids)).order_by(_e.seq)
            for escrow in connection.execute(own):
                escrows[escrow.purchase_id].append(escrow)
            unowned = select(_e.escrow_key).where(
                _e.escrow_key.in_([row.escrow_key for row in rows]), _e.purchase_id.is_(None)
            )
            foreign = set(connection.execute(unowned).scalars())
            steps = defaultdict(list)
            for step in self._steps.of_purchases(connection, ids):
                steps[step.call.purchase_id].append(step)
        return [
            OpenPurchase(
                id=row.id,
                status=Status(row.status),
                agent=row.agent,
                provider=row.provider,
                provider_name=row.provider_name,
                amount=Usdc.from_base_units(row.amount),
                service=row.service,
                escrow_key=row.escrow_key,
                approved_at=row.approved_at or row.created_at,
                settle=row.settle,
                cancel_wanted=bool(row.cancel_wanted),
                settle_wanted=bool(row.settle_wanted),
                stranded=row.stranded,
                key_known=row.escrow_key in foreign,
                escrows=tuple(_own_escrow(e, row.escrow_key) for e in escrows[row.id]),
                steps=tuple(steps[row.id]),
            )
            for row in rows
        ]

    def escrows(self, *, unknown: bool = False) -> list[KnownEscrowRow]:
        """Escrows of ours seen on chain, oldest first; ``unknown``: those without a purchase."""
        query = select(t.escrows).order_by(_e.seq)
        if unknown:
            query = query.where(_e.purchase_id.is_(None))
        with self._database.read() as connection:
            return [
                KnownEscrowRow(
                    row.escrow_id,
                    row.escrow_key,
                    row.purchase_id,
                    row.provider,
                    Usdc.from_base_units(row.amount),
                    EscrowState(row.state),
                )
                for row in connection.execute(query)
            ]

    def _known(
        self, connection: Connection, events: Sequence[ChainEvent]
    ) -> Mapping[str, KnownEscrow]:
        keys = {event.escrow_key for event in events if event.escrow_key}
        query = select(t.escrows).where(_e.escrow_key.in_(keys))
        return {
            row.escrow_key: KnownEscrow(row.escrow_id, row.escrow_key, row.provider)
            for row in connection.execute(query)
        }

    def _open_bonds(self, connection: Connection) -> Iterable[str]:
        j = t.journal.c
        placed = select(j.debit).where(j.kind == EntryKind.BOND.value)
        ended = select(j.credit).where(
            j.kind.in_([EntryKind.BOND_RETURN.value, EntryKind.BOND_LOSS.value])
        )
        accounts = connection.execute(placed.except_(ended)).scalars()
        return [account.removeprefix("bond:") for account in accounts]

    def _write_entries(
        self, connection: Connection, entries: list[Entry], after: int, to: Block, now: int
    ) -> None:
        for entry in entries:
            connection.execute(
                insert(t.journal).values(
                    block_hash=entry.block_hash,
                    log_index=entry.log_index,
                    block_number=entry.block_number,
                    tx_hash=entry.tx_hash,
                    at=entry.at,
                    kind=entry.kind.value,
                    debit=entry.debit,
                    credit=entry.credit,
                    amount=entry.amount.base_units,
                    escrow_key=entry.escrow_key,
                )
            )
        self._audit.append(
            connection,
            now,
            "journal_written",
            "journal",
            after=after,
            to=to.number,
            to_hash=to.hash,
            entries=len(entries),
            digest=entries_digest(entries),
        )

    def _spent(self, connection: Connection, purchase_id: str) -> Usdc:
        sums = sums_of_escrows(connection, [purchase_id]).get(purchase_id, {})
        return sums.get(EntryKind.FUND, ZERO) - sums.get(EntryKind.REFUND, ZERO)


def _own_escrow(row: Any, own_key: str) -> OwnEscrow:
    return OwnEscrow(
        escrow_id=row.escrow_id,
        state=EscrowState(row.state),
        linked=row.escrow_key == own_key,
        amount=Usdc.from_base_units(row.amount),
        deadline=row.deadline,
        window_ends=row.window_ends,
    )


def _cursor(connection: Connection) -> Block | None:
    query = select(t.cursors).where(t.cursors.c.name == _BOOKS)
    row = connection.execute(query).one_or_none()
    return Block(row.number, row.hash, row.at) if row else None


def _set_cursor(connection: Connection, block: Block) -> None:
    values = {"number": block.number, "hash": block.hash, "at": block.at}
    there = update(t.cursors).where(t.cursors.c.name == _BOOKS).values(values)
    if connection.execute(there).rowcount == 0:
        connection.execute(insert(t.cursors).values(name=_BOOKS, **values))
