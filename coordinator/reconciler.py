"""Reads events since the cursor into the books, and names every difference from the chain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.domain.chain_events import Block, EventBatch
from coordinator.domain.errors import ChainUnavailable, ImpossibleState
from coordinator.domain.journal import Entry, KnownEscrow, make_entries
from coordinator.domain.ports import Chain, Clock, EscrowOnChain, KillPoint, Reach
from coordinator.domain.reconciliation import Discrepancy, Reconciliation, differing_entries
from coordinator.domain.steps import Receipt, StepKind
from coordinator.domain.usdc import ZERO
from coordinator.ledger.chain_book import ChainBook, KnownEscrowRow
from coordinator.ledger.differences import differences_in_books
from coordinator.ledger.journal_book import JournalBook
from coordinator.ledger.operations import OperationsBook
from coordinator.ledger.steps import StepBook

log = logging.getLogger(__name__)

_RANGE_MAX: Final = 5000
_COMPARED_AT_ONCE: Final = 200
_COMPARE_TRIES: Final = 5
_CURSOR_LOOKS: Final = 3
# Steps whose success has no event that is followed.
_SILENT: Final = (StepKind.APPROVE, StepKind.FILL)

Progress = Callable[[int, int, int], None]
"""Called with (first block, block reached, last block)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Follows the chain into the books and compares them. It never signs anything."""

    chain: Chain
    books: ChainBook
    journal: JournalBook
    operations: OperationsBook
    steps: StepBook
    vault: str
    start_block: int
    clock: Clock
    reach: Reach

    def advance(
        self, to: int, *, adopt_unknown: bool = False, progress: Progress | None = None
    ) -> int:
        """Bring the books to block ``to``; how many events were new.

        Ranges that the endpoint refuses are halved. ImpossibleState when the cursor's block is
        not on the chain any more.
        """
        cursor = self.books.cursor() or self._open()
        first, span, events = cursor.number, _RANGE_MAX, 0
        if cursor.number > to:
            return 0
        self._check_cursor(cursor)
        evidence = self._receipts() if cursor.number < to else {}
        while cursor.number < to:
            until = min(cursor.number + span, to)
            try:
                batch = self.chain.events(after=cursor.number, after_hash=cursor.hash, to=until)
            except ChainUnavailable:
                if until == cursor.number + 1:
                    raise
                span = max(1, (until - cursor.number) // 2)
                continue
            _check_complete(batch, evidence)
            self.reach(KillPoint.EVENTS_READ)
            if self.books.apply(batch, adopt_unknown=adopt_unknown, now=self.clock()):
                events += len(batch.events)
                self.reach(KillPoint.EVENTS_STORED)
            cursor = self.books.cursor() or cursor
            span = min(span * 2, _RANGE_MAX)
            if progress is not None:
                progress(first, cursor.number, to)
        return events

    def reconcile(
        self, *, from_block: int | None = None, progress: Progress | None = None
    ) -> Reconciliation:
        """Bring the books up to date and compare them with the chain at one block.

        With ``from_block`` the events from there on are read again, and each journal entry is
        compared with what they make.
        """
        before = self.books.cursor()
        events = self.advance(self.chain.observe().readable, progress=progress)
        cursor = self.books.cursor()
        assert cursor is not None
        start = before.number + 1 if before else self.start_block
        cursor, differences = self._compare_still(cursor)
        if from_block is not None:
            start = max(from_block, self.start_block)
            events, differing = self._read_again(start, cursor, progress)
            differences += differing
        explained = self.operations.explained()
        found = tuple(d for d in differences if d.id not in explained)
        return Reconciliation(min(start, cursor.number), cursor.number, events, found)

    def _compare_still(self, cursor: Block) -> tuple[Block, list[Discrepancy]]:
        # An executor beside us moves the books on: what was read in two halves proves nothing.
        for _ in range(_COMPARE_TRIES):
            differences = list(self._compare(cursor))
            after = self.books.cursor() or cursor
            if after == cursor or not differences:
                break
            cursor = after
        return cursor, differences

    def _read_again(
        self, start: int, cursor: Block, progress: Progress | None
    ) -> tuple[int, list[Discrepancy]]:
        known = {
            e.escrow_key: KnownEscrow(e.escrow_id, e.escrow_key, e.provider)
            for e in self.books.escrows()
            if e.escrow_key
        }
        bonds = set(self.journal.open_bonds(before=start))
        made: list[Entry] = []
        count, at = 0, start - 1
        while at < cursor.number:
            until = min(at + _RANGE_MAX, cursor.number)
            batch = self.chain.events(after=at, after_hash="", to=until)
            made += make_entries(
                batch.events,
                treasury=self.chain.treasury,
                vault=self.vault,
                known=known,
                bonds=bonds,
            )
            count, at = count + len(batch.events), until
            if progress is not None:
                progress(start, until, cursor.number)
        booked = self.journal.entries(from_block=start)
        return count, list(differing_entries(made, booked))

    def _open(self) -> Block:
        number = max(0, self.start_block - 1)
        block = self.chain.block(number)
        try:
            balance, _ = self.chain.balances([], block_number=number)
        except ChainUnavailable as fault:
            raise ChainUnavailable(
                f"the endpoint can't tell the balance of block {number}, where the journal would"
                f" begin: set COORDINATOR_START_BLOCK to a recent block ({fault})"
            ) from fault
        self.books.open(block, balance, now=self.clock())
        return self.books.cursor() or block

    def _receipts(self) -> Mapping[str, Receipt]:
        in_flight = [step for step in self.steps.in_flight() if step.kind not in _SILENT]
        return self.chain.receipts([a.hash for step in in_flight for a in step.attempts])

    def _check_cursor(self, cursor: Block) -> None:
        # One node of a fleet may be wrong: only a hash that is told again and again proves it.
        for _ in range(_CURSOR_LOOKS):
            if self.chain.block(cursor.number).hash == cursor.hash:
                return
        raise ImpossibleState(
            f"block {cursor.number} is not the one that the books were written from: the"
            " chain was reorganised or the endpoint is on another one"
        )

    def _compare(self, cursor: Block) -> Iterator[Discrepancy]:
        yield from differences_in_books(self.books, self.journal, self.operations)
        yield from self._escrow_differences(cursor)
        balance, _ = self.chain.balances([], block_number=cursor.number)
        booked = self.journal.treasury_balance()
        if balance != booked:
            yield Discrepancy(
                "balance_differs",
                f"the treasury holds {balance} USDC in block {cursor.number};"
                f" the journal says {booked}",
                "coordinator reconcile explain",
                amount=balance - booked,
                about=str(balance - booked),
            )

    def _escrow_differences(self, cursor: Block) -> Iterator[Discrepancy]:
        known = self.books.escrows()
        booked_all = self.journal.escrow_balances()
        for start in range(0, len(known), _COMPARED_AT_ONCE):
            part = known[start : start + _COMPARED_AT_ONCE]
            on_chain = self.chain.escrows_at(
                [escrow.escrow_id for escrow in part], block_number=cursor.number
            )
            keys = [escrow.escrow_key for escrow in part if escrow.escrow_key]
            _, remaining = self.chain.balances(keys, block_number=cursor.number)
            for escrow in part:
                yield from _state_difference(escrow, on_chain.get(escrow.escrow_id))
                if not escrow.escrow_key:
                    continue
                left = remaining[escrow.escrow_key]
                booked = booked_all.get(escrow.escrow_key, ZERO)
                if left != booked:
                    yield Discrepancy(
                        "escrow_balance_differs",
                        f"the vault holds {left} USDC for it, the journal says {booked}",
                        "coordinator reconcile explain",
                        amount=left - booked,
                        purchase_id=escrow.purchase_id,
                        escrow_id=escrow.escrow_id,
                    )


def _state_difference(escrow: KnownEscrowRow, seen: EscrowOnChain | None) -> Iterator[Discrepancy]:
    if seen is None or seen.state is not escrow.state:
        said = seen.state if seen else "it does not exist"
        yield Discrepancy(
            "state_behind",
            f"the chain says {said}, the ledger {escrow.state}",
            "coordinator recover",
            purchase_id=escrow.purchase_id,
            escrow_id=escrow.escrow_id,
        )
    elif seen.amount != escrow.amount:
        yield Discrepancy(
            "amount_differs",
            f"the chain says {seen.amount} USDC, the ledger {escrow.amount}",
            "coordinator reconcile explain",
            amount=seen.amount - escrow.amount,
            purchase_id=escrow.purchase_id,
            escrow_id=escrow.escrow_id,
        )


def _check_complete(batch: EventBatch, evidence: Mapping[str, Receipt]) -> None:
    """Refuse logs that leave out what a receipt proves: nodes may know a block, not its logs."""
    told = {event.tx_hash for event in batch.events}
    for tx_hash, receipt in evidence.items():
        within = batch.after < receipt.block_number <= batch.to.number
        if within and receipt.succeeded and tx_hash not in told:
            raise ChainUnavailable(
                f"the endpoint leaves the logs of {tx_hash} out of block {receipt.block_number}"
            )
