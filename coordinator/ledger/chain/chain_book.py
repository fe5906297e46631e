"""The chain as the ledger follows it: escrows, journal, cursor, and the ends of holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, insert, select, update

from coordinator.domain.chain.accounts import OwnAccount, account_name, open_at
from coordinator.domain.chain.events import (
    Block,
    ChainEvent,
    EscrowState,
    EventBatch,
    EventKind,
)
from coordinator.domain.chain.journal import Entry, EntryKind, FundedEscrow, make_entries
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.observed import ended
from coordinator.domain.purchase.lifecycle import FINAL
from coordinator.domain.purchase.planning import OpenPurchase
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.audit.journal_proof import block_digests
from coordinator.ledger.chain.accounts import AccountBook
from coordinator.ledger.chain.agreement import Agreement, compare
from coordinator.ledger.chain.escrow_rows import EscrowRow, read_escrows
from coordinator.ledger.chain.following import apply_events
from coordinator.ledger.chain.journal_book import account_sums
from coordinator.ledger.chain.open_purchases import InProgress, load_open, read_in_progress
from coordinator.ledger.chain.rollback import RolledBack, roll_back
from coordinator.ledger.chain.safe_watch import begin_watching, watch
from coordinator.ledger.chain.steps import StepBook
from coordinator.ledger.chain.strays import look_for_strays
from coordinator.ledger.spend.bonds import bond_lost
from coordinator.ledger.spend.holds import end_hold
from coordinator.ledger.spend.reading import sums_of_escrows
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c
_j = t.journal.c
_BOOKS = "books"
_FINAL = "final"


class ChainBook:
    """Applies events exactly once: entries, states and cursor change in one transaction."""

    def __init__(
        self,
        transactions: Transactions,
        steps: StepBook,
        accounts: AccountBook,
        *,
        vault: str,
        watches: bool = False,
    ) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._steps = steps
        self._accounts = accounts
        self._vault = vault
        # Whether the treasury is a Safe, to which others may do something.
        self._watches = watches

    def accounts(self) -> tuple[OwnAccount, ...]:
        """Every account that is or was ours; LedgerTampered where the log's rows were changed."""
        return self._accounts.all()

    def cursor(self) -> Block | None:
        """The last block whose events are in the books; None before the opening."""
        with self._database.read() as connection:
            return _cursor(connection, _BOOKS)

    def final(self) -> Block | None:
        """The last block that can't be undone and whose events were read twice.

        Before there is one it is the block of the opening; None before that too.
        """
        with self._database.read() as connection:
            found = _cursor(connection, _FINAL)
            if found is not None:
                return found
            opening = select(_j.block_number, _j.block_hash, _j.at).where(
                _j.kind == EntryKind.OPENING.value
            )
            first = opening.order_by(_j.block_number).limit(1)
            row = connection.execute(first).one_or_none()
            return Block(*row) if row is not None else None

    def store_final(self, block: Block) -> None:
        """Note that everything up to ``block`` is final; an earlier one changes nothing."""
        with self._database.write() as connection:
            known, books = _cursor(connection, _FINAL), _cursor(connection, _BOOKS)
            above = known is None or block.number > known.number
            if above and books is not None and block.number <= books.number:
                _set_cursor(connection, _FINAL, block)

    def mark(self, *, below: int) -> tuple[int, str] | None:
        """Number and hash of the newest block below ``below`` that the books name."""
        found: list[tuple[int, str]] = []
        with self._database.read() as connection:
            for table in (t.journal, t.escrow_events, t.safe_events, t.attempts):
                c = table.c
                query = select(c.block_number, c.block_hash).where(c.block_number < below)
                newest = query.order_by(c.block_number.desc()).limit(1)
                found += [(number, block_hash) for number, block_hash in connection.execute(newest)]
            final = _cursor(connection, _FINAL)
        if final is not None and final.number < below:
            found.append((final.number, final.hash))
        return max(found, default=None)

    def roll_back(self, lost: Block, to: Block, *, now: int) -> RolledBack | None:
        """Take everything above ``to`` out of the books; None if the cursor is not ``lost``.

        Below the final block that is a contradiction, and spending pauses.
        """
        with self._transactions.write() as tx:
            connection = tx.connection
            if _cursor(connection, _BOOKS) != lost:
                return None
            final = _cursor(connection, _FINAL)
            if final is not None and to.number < final.number:
                why = (
                    f"block {final.number} was final and is not on the chain any more: check the"
                    " books and the endpoint, then unpause"
                )
                pause_everything(tx, why, by="executor", now=now)
                _set_cursor(connection, _FINAL, to)
            done = roll_back(tx, to, now)
            _set_cursor(connection, _BOOKS, to)
            return done

    def open(
        self, block: Block, balances: Mapping[str, Usdc], *, head: int | None = None, now: int
    ) -> None:
        """Begin the journal after ``block`` with what the accounts of ours held in it.

        ``head`` is the newest block, where it is not the same.
        """
        with self._transactions.write() as tx:
            if _cursor(tx.connection, _BOOKS) is not None:
                return
            accounts = self._accounts.begin(tx, now=now)
            entries = [
                _opening(account, block, balances[account.address])
                for account in accounts
                if account.has(block.number + 1)
            ]
            entries.sort(key=lambda entry: entry.log_index)
            _set_cursor(tx.connection, _BOOKS, block)
            _write_entries(tx, entries, block.number - 1, block, now)
            if self._watches:
                begin_watching(tx, block.number if head is None else head, now=now)

    def apply(self, batch: EventBatch, *, now: int) -> bool:
        """Put a batch into the books; False, and nothing written, if the cursor has moved on.

        A funded escrow of ours that no purchase knows gets one without an agent, counted against
        the organisation, and spending pauses: the database was behind the chain.
        """
        with self._transactions.write() as tx:
            cursor = _cursor(tx.connection, _BOOKS)
            if cursor is None or (cursor.number, cursor.hash) != (batch.after, batch.after_hash):
                return False
            # With a policy that was tampered with, the books stand still whatever they are given.
            tx.rules  # noqa: B018
            moved = apply_events(tx, batch.events, now)
            entries = self._make_entries(tx.connection, batch)
            if entries:
                _write_entries(tx, entries, batch.after, batch.to, now)
                look_for_strays(tx, self._accounts.read(tx.connection), entries, now=now)
            if self._watches:
                watch(tx, batch.events, batch.to.number, now=now)
            _set_cursor(tx.connection, _BOOKS, batch.to)
        for message in moved:
            log.info(message)
        return True

    def entries_of(self, batch: EventBatch) -> list[Entry]:
        """The entries that a batch makes; nothing is written."""
        with self._database.read() as connection:
            return self._make_entries(connection, batch)

    def usdc_after(self, batch: EventBatch) -> Mapping[str, Usdc]:
        """Sum each account's USDC by the journal and a batch after it; nothing is written.

        Of those that are ours after the batch's last block.
        """
        with self._database.read() as connection:
            entries = self._make_entries(connection, batch)
            ours = open_at(self._accounts.read(connection), batch.to.number + 1)
            booked = account_sums(connection, ours)
        for address in ours:
            name = account_name(address)
            came = sum((e.amount for e in entries if e.debit == name), ZERO)
            went = sum((e.amount for e in entries if e.credit == name), ZERO)
            booked[address] += came - went
        return booked

    def open_escrows(self, *, at_most: int) -> dict[str, EscrowState]:
        """The states of our escrows that can still move, by id; none where there are more."""
        over = [EscrowState.SETTLED.value, EscrowState.CANCELLED.value]
        query = select(_e.escrow_id, _e.state).where(_e.state.not_in(over))
        with self._database.read() as connection:
            rows = connection.execute(query.limit(at_most + 1)).all()
        if len(rows) > at_most:
            return {}
        return {row.escrow_id: EscrowState(row.state) for row in rows}

    def compare(self, batch: EventBatch) -> Agreement:
        """Compare the books' events in (batch.after, batch.to] with the batch's."""
        with self._database.read() as connection:
            return compare(connection, batch, self._make_entries(connection, batch))

    def end_holds(self, final_number: int, *, now: int) -> int:
        """Post or void the holds of purchases whose ending is at or below ``final_number``."""
        due = (
            select(t.holds.c.kind, t.holds.c.purchase_id, t.holds.c.amount, _p.agent)
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
        with self._transactions.write() as tx:
            rows = tx.connection.execute(due).all()
            for row in rows:
                spent = (
                    _spent(tx.connection, row.purchase_id)
                    if row.kind == "purchase"
                    else bond_lost(tx.connection, row.purchase_id)
                )
                end_hold(tx, row.purchase_id, row.kind, spent=spent, now=now)
                tx.record(
                    now,
                    "hold_posted" if spent else "hold_voided",
                    row.purchase_id,
                    kind=row.kind,
                    amount=spent.base_units,
                )
                held = Usdc.from_base_units(row.amount)
                end = {"held": held, "spent": spent, "agent": row.agent, "now": now}
                tx.emit(ended(row.kind, **end, purchase_id=row.purchase_id))
        return len(rows)

    def open_purchases(self) -> list[OpenPurchase]:
        """Load what is in progress, with steps and escrows, oldest first."""
        with self._database.read() as connection:
            return load_open(connection, self._steps)

    def in_progress(self) -> InProgress:
        """Read of what is in progress only what has to be signed, and whose moves are followed."""
        with self._database.read() as connection:
            return read_in_progress(connection)

    def escrows(self, *, unknown: bool = False) -> list[EscrowRow]:
        """Return our escrows seen on chain, oldest first; ``unknown``: those no agent asked for.

        Such a one has no purchase, or one that is known from the chain alone.
        """
        with self._database.read() as connection:
            return read_escrows(connection, unknown=unknown)

    def _make_entries(self, connection: Connection, batch: EventBatch) -> list[Entry]:
        """Make the batch's entries; ChainUnavailable where others than our accounts were read."""
        accounts = self._accounts.read(connection)
        if batch.accounts is not None and batch.accounts != accounts:
            raise ChainUnavailable("our accounts changed while blocks were read: read them again")
        return make_entries(
            batch.events,
            accounts=accounts,
            vault=self._vault,
            known=self._funded_escrows(connection, batch.events),
            bonds=self._open_bonds(connection, batch.after),
        )

    def _funded_escrows(
        self, connection: Connection, events: Sequence[ChainEvent]
    ) -> Mapping[str, FundedEscrow]:
        # What is funded among the events tells its own values.
        paid = (event.escrow_key for event in events if event.kind is EventKind.PAYOUT)
        keys = set(paid)
        if not keys:
            return {}
        query = select(t.escrows).where(_e.escrow_key.in_(keys))
        return {
            row.escrow_key: FundedEscrow(row.escrow_id, row.escrow_key, row.provider)
            for row in connection.execute(query)
        }

    def _open_bonds(self, connection: Connection, upto: int) -> Iterable[str]:
        """Escrow ids whose bond was out at the end of block ``upto``."""
        placed = select(_j.debit).where(_j.kind == EntryKind.BOND.value, _j.block_number <= upto)
        ended = select(_j.credit).where(
            _j.kind.in_([EntryKind.BOND_RETURN.value, EntryKind.BOND_LOSS.value]),
            _j.block_number <= upto,
        )
        accounts = connection.execute(placed.except_(ended)).scalars()
        return [account.removeprefix("bond:") for account in accounts]


def _opening(account: OwnAccount, block: Block, held: Usdc) -> Entry:
    return Entry(
        block_number=block.number,
        block_hash=block.hash,
        log_index=account.opening_index,
        tx_hash="",
        at=block.at,
        kind=EntryKind.OPENING,
        debit=account.name,
        credit="opening",
        amount=held,
    )


def _write_entries(tx: Tx, entries: list[Entry], after: int, to: Block, now: int) -> None:
    rows = [
        {
            "block_hash": entry.block_hash,
            "log_index": entry.log_index,
            "block_number": entry.block_number,
            "tx_hash": entry.tx_hash,
            "at": entry.at,
            "kind": entry.kind.value,
            "debit": entry.debit,
            "credit": entry.credit,
            "amount": entry.amount.base_units,
            "escrow_key": entry.escrow_key,
        }
        for entry in entries
    ]
    tx.connection.execute(insert(t.journal), rows)
    tx.record(
        now,
        "journal_written",
        "journal",
        after=after,
        to=to.number,
        to_hash=to.hash,
        entries=len(entries),
        blocks=block_digests(entries),
    )


def _spent(connection: Connection, purchase_id: str) -> Usdc:
    sums = sums_of_escrows(connection, [purchase_id]).get(purchase_id, {})
    paid = sums.get(EntryKind.FUND, ZERO) + sums.get(EntryKind.X402, ZERO)
    return paid - sums.get(EntryKind.REFUND, ZERO)


def read_cursors(connection: Connection) -> tuple[Block | None, Block | None]:
    """The last block in the books, and the last that is final there, in the caller's transaction.

    None for each before there is one.
    """
    return _cursor(connection, _BOOKS), _cursor(connection, _FINAL)


def _cursor(connection: Connection, name: str) -> Block | None:
    query = select(t.cursors).where(t.cursors.c.name == name)
    row = connection.execute(query).one_or_none()
    return Block(row.number, row.hash, row.at) if row else None


def _set_cursor(connection: Connection, name: str, block: Block) -> None:
    values = {"number": block.number, "hash": block.hash, "at": block.at}
    changed = connection.execute(update(t.cursors).where(t.cursors.c.name == name).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(t.cursors).values(name=name, **values))
