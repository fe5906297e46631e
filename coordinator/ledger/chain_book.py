"""The chain as the ledger follows it: escrows, journal, cursor, and the ends of holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from coordinator.domain.chain_events import (
    EMPTY,
    STATUS_OF,
    Block,
    ChainEvent,
    EscrowState,
    EventBatch,
    EventKind,
)
from coordinator.domain.decision import purchase_scopes
from coordinator.domain.journal import TREASURY, Entry, EntryKind, KnownEscrow, make_entries
from coordinator.domain.limits import check_limits, counters_touched
from coordinator.domain.planning import OpenPurchase, OwnEscrow
from coordinator.domain.purchase import FINAL, Status, check_move
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.steps import StepKind
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger import schema as t
from coordinator.ledger.adoption import attribute_to_organisation
from coordinator.ledger.audit import AuditLog, entries_digest
from coordinator.ledger.counters import end_hold, place_hold, read_usage
from coordinator.ledger.database import Database
from coordinator.ledger.policies import PolicyBook
from coordinator.ledger.steps import StepBook

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
            for event in batch.events:
                self._apply_event(connection, event, adopt_unknown, now)
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
            return True

    def end_holds(self, final_number: int, *, now: int) -> int:
        """Post or void the holds of purchases whose ending is at or below ``final_number``."""
        due = (
            select(t.holds.c.kind, t.holds.c.purchase_id, _p.escrow_key)
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
                    self._spent(connection, row.escrow_key)
                    if row.kind == "purchase"
                    else self._bond_lost(connection, row.purchase_id)
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
            escrows = connection.execute(
                select(t.escrows).where(_e.purchase_id.in_(ids)).order_by(_e.seq)
            ).all()
            steps = self._steps.of_purchases(connection, ids)
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
                escrows=tuple(
                    _own_escrow(e, row.escrow_key) for e in escrows if e.purchase_id == row.id
                ),
                steps=tuple(s for s in steps if s.call.purchase_id == row.id),
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

    def hold_bond(
        self, purchase_id: str, bond: Usdc, *, by: str, why: str, now: int
    ) -> Reason | None:
        """Hold a dispute's bond against the organisation; a reason when it does not fit."""
        with self._database.write() as connection:
            policy = self._policies.in_force(connection)
            counters = counters_touched(purchase_scopes(None, None), now, policy.zone)
            states = check_limits(
                policy.limits(None, None), read_usage(connection, counters), bond, now, policy.zone
            )
            broken = sorted((s for s in states if s.broken), key=lambda s: s.remaining)
            if broken:
                return broken[0].reason(bond)
            query = select(t.holds).where(
                t.holds.c.purchase_id == purchase_id, t.holds.c.kind == "bond"
            )
            if connection.execute(query).first() is None:
                place_hold(
                    connection,
                    purchase_id=purchase_id,
                    kind="bond",
                    amount=bond,
                    counters=counters,
                    now=now,
                )
            self._audit.append(
                connection,
                now,
                "dispute_wanted",
                purchase_id,
                by=by,
                why=why,
                bond=bond.base_units,
            )
        return None

    def bonds_to_dispute(self) -> dict[str, Usdc]:
        """Purchases whose bond is held and whose dispute has no step yet, with the bond."""
        stepped = select(t.steps.c.purchase_id).where(t.steps.c.kind == StepKind.DISPUTE.value)
        query = (
            select(t.holds.c.purchase_id, t.holds.c.amount)
            .join(t.purchases, _p.id == t.holds.c.purchase_id)
            .where(
                t.holds.c.kind == "bond",
                t.holds.c.status == "held",
                _p.status == Status.DELIVERED.value,
                t.holds.c.purchase_id.not_in(stepped),
            )
        )
        with self._database.read() as connection:
            return {
                row.purchase_id: Usdc.from_base_units(row.amount)
                for row in connection.execute(query)
            }

    def _apply_event(
        self, connection: Connection, event: ChainEvent, adopt_unknown: bool, now: int
    ) -> None:
        if event.kind is EventKind.ESCROW_CREATED:
            self._created(connection, event)
        elif event.kind is EventKind.ESCROW_FUNDED:
            self._funded(connection, event, adopt_unknown, now)
        elif event.kind is not EventKind.ESCROW_MOVED:
            return
        query = select(t.escrows).where(_e.escrow_id == event.escrow_id)
        escrow = connection.execute(query).one_or_none()
        if escrow is None:
            return
        if event.kind is EventKind.ESCROW_MOVED:
            assert event.state is not None
            changed: dict[str, Any] = {"state": event.state.value, "last_block": event.block_number}
            if event.window_ends is not None:
                changed["window_ends"] = event.window_ends
            connection.execute(
                update(t.escrows).where(_e.escrow_id == event.escrow_id).values(changed)
            )
        state = event.state or EscrowState(escrow.state)
        self._follow(connection, escrow, state, event, now)

    def _created(self, connection: Connection, event: ChainEvent) -> None:
        assert event.amount is not None
        creator = connection.execute(
            select(t.steps.c.purchase_id)
            .join(t.attempts, t.attempts.c.step_id == t.steps.c.id)
            .where(t.attempts.c.hash == event.tx_hash, t.steps.c.kind == StepKind.CREATE.value)
        ).scalar()
        connection.execute(
            insert(t.escrows).values(
                escrow_id=event.escrow_id,
                purchase_id=creator,
                provider=event.provider,
                amount=event.amount.base_units,
                service_hash=event.service_hash,
                state=EscrowState.CREATED.value,
                deadline=event.deadline,
                created_at=event.at,
                last_block=event.block_number,
            )
        )

    def _funded(
        self, connection: Connection, event: ChainEvent, adopt_unknown: bool, now: int
    ) -> None:
        escrow = connection.execute(
            select(t.escrows).where(_e.escrow_id == event.escrow_id)
        ).one_or_none()
        if escrow is None or event.amount is None:
            return
        owner = connection.execute(
            select(_p.id, _p.provider, _p.amount).where(
                _p.escrow_key == event.escrow_key, _p.status != Status.DENIED.value
            )
        ).one_or_none()
        owner_id = owner.id if owner else None
        if owner is not None and owner.provider.lower() != escrow.provider.lower():
            # Ours by key but not by terms: never paid for this purchase, so nobody owns it.
            owner_id = None
        connection.execute(
            update(t.escrows)
            .where(_e.escrow_id == event.escrow_id)
            .values(
                escrow_key=event.escrow_key,
                purchase_id=owner_id,
                amount=event.amount.base_units,
                state=EscrowState.FUNDED.value,
                last_block=event.block_number,
            )
        )
        if owner is None and adopt_unknown:
            policy = self._policies.in_force(connection)
            attribute_to_organisation(connection, self._audit, policy, escrow.escrow_id, now=now)

    def _follow(
        self,
        connection: Connection,
        escrow: Any,
        state: EscrowState,
        event: ChainEvent,
        now: int,
    ) -> None:
        owner_id = connection.execute(
            select(_e.purchase_id).where(_e.escrow_id == escrow.escrow_id)
        ).scalar()
        if owner_id is None:
            return
        purchase = connection.execute(select(t.purchases).where(_p.id == owner_id)).one()
        before, after = Status(purchase.status), STATUS_OF[state]
        linked = escrow.escrow_key == purchase.escrow_key
        if before is after or (not linked and self._has_linked(connection, purchase)):
            return
        if before in FINAL and not linked:
            return
        check_move(owner_id, before, after)
        values: dict[str, Any] = {"status": after.value, "updated_at": now, "stranded": None}
        if after in FINAL:
            values["ended_at_block"] = event.block_number
        if after is not Status.CANCELLED:
            values.update(reason_code=None, reason_message=None)
        elif purchase.reason_code is None:
            why = _why_cancelled(before)
            values.update(reason_code=ReasonCode.CANCELLED.value, reason_message=why)
        connection.execute(update(t.purchases).where(_p.id == owner_id).values(values))
        self._audit.append(
            connection,
            now,
            f"purchase_{after}",
            owner_id,
            before=before.value,
            escrow_id=escrow.escrow_id,
            tx_hash=event.tx_hash,
            block=event.block_number,
        )

    def _has_linked(self, connection: Connection, purchase: Any) -> bool:
        query = select(_e.seq).where(
            _e.purchase_id == purchase.id, _e.escrow_key == purchase.escrow_key
        )
        return connection.execute(query).first() is not None

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

    def _spent(self, connection: Connection, escrow_key: str) -> Usdc:
        j = t.journal.c
        query = (
            select(j.kind, func.sum(j.amount)).where(j.escrow_key == escrow_key).group_by(j.kind)
        )
        sums = {kind: int(amount) for kind, amount in connection.execute(query)}
        return Usdc.from_base_units(
            sums.get(EntryKind.FUND.value, 0) - sums.get(EntryKind.REFUND.value, 0)
        )

    def _bond_lost(self, connection: Connection, purchase_id: str) -> Usdc:
        query = select(func.coalesce(func.sum(t.journal.c.amount), 0)).where(
            t.journal.c.kind == EntryKind.BOND_LOSS.value,
            t.journal.c.credit.in_(
                select("bond:" + _e.escrow_id).where(_e.purchase_id == purchase_id)
            ),
        )
        return Usdc.from_base_units(int(connection.execute(query).scalar_one())) or ZERO


def _own_escrow(row: Any, own_key: str) -> OwnEscrow:
    return OwnEscrow(
        escrow_id=row.escrow_id,
        state=EscrowState(row.state),
        linked=row.escrow_key == own_key,
        amount=Usdc.from_base_units(row.amount),
        deadline=row.deadline,
        window_ends=row.window_ends,
    )


def _why_cancelled(before: Status) -> str:
    if before in (Status.APPROVED, Status.CREATED):
        return "the escrow was cancelled before it was funded"
    if before is Status.DISPUTED:
        return "the dispute was decided with a refund"
    return "the escrow was cancelled and refunded; see penalty and refunded"


def _cursor(connection: Connection) -> Block | None:
    query = select(t.cursors).where(t.cursors.c.name == _BOOKS)
    row = connection.execute(query).one_or_none()
    return Block(row.number, row.hash, row.at) if row else None


def _set_cursor(connection: Connection, block: Block) -> None:
    added = sqlite_insert(t.cursors).values(
        name=_BOOKS, number=block.number, hash=block.hash, at=block.at
    )
    connection.execute(
        added.on_conflict_do_update(
            index_elements=[t.cursors.c.name],
            set_={"number": block.number, "hash": block.hash, "at": block.at},
        )
    )
