"""Name every difference between the books and the chain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from coordinator.books.ahead import ahead
from coordinator.books.follower import Follower, Progress
from coordinator.books.near_head import usdc_at
from coordinator.books.ranges import Span
from coordinator.domain.chain.accounts import open_at
from coordinator.domain.chain.events import Block, EventBatch
from coordinator.domain.chain.reconciliation import Discrepancy, Reconciliation, differing_entries
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.ports import ChainReader, Clock, EscrowOnChain, Observation
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.garbage import seldom_collected
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.chain.comparisons import ComparisonBook, page_digest
from coordinator.ledger.chain.differences import differences_in_books
from coordinator.ledger.chain.escrow_rows import EscrowRow
from coordinator.ledger.chain.journal_book import JournalBook
from coordinator.ledger.tx.operations import OperationsBook

# Escrows of a page, which has one digest, and pages that are asked for at once.
_PAGE: Final = 200
_PAGES_AT_ONCE: Final = 5
_COMPARE_TRIES: Final = 5
_ROW_DIFFERS: Final = "row_differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Compares the books with the chain and the audit log. It never signs anything.

    Spending pauses when a row is not what the log tells. A host that is no worker may not write
    books: with ``writes_books`` False they are compared as the worker left them.
    """

    chain: ChainReader
    books: ChainBook
    journal: JournalBook
    comparisons: ComparisonBook
    operations: OperationsBook
    row_faults: Callable[[], Iterable[str]]
    follower: Follower
    clock: Clock
    writes_books: bool = True

    @seldom_collected()
    def reconcile(
        self, *, from_block: int | None = None, progress: Progress | None = None
    ) -> Reconciliation:
        """Bring the books up to date and compare them with the chain at one block.

        Escrows that stand in the books as when they agreed with the chain, within the last week,
        are not asked again: without an event nothing of them can have changed. With ``from_block``
        all are, the events from there on are read again, and each journal entry is compared with
        what they make. InvalidRequest where this host may not open the books and nobody has.
        """
        before = self.books.cursor()
        events = self._follow(progress)
        cursor = self.books.cursor()
        if cursor is None:
            raise InvalidRequest(
                "the books are not open yet: start `coordinator worker`, which follows the chain"
            )
        start = before.number + 1 if before else self.follower.start_block
        cursor, differences = self._compare_still(cursor, everything=from_block is not None)
        if from_block is not None:
            start = max(from_block, self.follower.start_block)
            events, differing = self._read_again(start, cursor, progress)
            differences += differing
        explained = self.operations.explained()
        found = tuple(d for d in differences if d.id not in explained)
        changed = next((d for d in found if d.kind == _ROW_DIFFERS), None)
        if changed is not None:
            self.operations.report_tampering("database", changed.detail, now=self.clock())
        if self.writes_books:
            self.comparisons.note_reconciliation(cursor.number, len(found), now=self.clock())
        return Reconciliation(min(start, cursor.number), cursor.number, events, found)

    def _follow(self, progress: Progress | None) -> int:
        if not self.writes_books:
            return 0
        return self.follower.follow(self.chain.observe(), progress=progress).events

    def _compare_still(self, cursor: Block, *, everything: bool) -> tuple[Block, list[Discrepancy]]:
        # An executor beside us moves the books on: what was read in two halves proves nothing.
        for _ in range(_COMPARE_TRIES):
            differences = list(self._compare(cursor, everything))
            after = self.books.cursor() or cursor
            if after == cursor or not differences:
                break
            cursor = after
        return cursor, differences

    def _read_again(
        self, start: int, cursor: Block, progress: Progress | None
    ) -> tuple[int, list[Discrepancy]]:
        """Compare range by range; an interrupted comparison goes on where it stopped."""
        rescan = self.journal.rescan(start)
        explained = self.operations.explained()
        batches = Span().each(self._read_range, after=rescan.reached, to=cursor.number)
        for batch in ahead(batches):
            at, until = batch.after, batch.to.number
            made = self.books.entries_of(batch)
            booked = self.journal.entries(from_block=at + 1, to_block=until)
            found = (d for d in differing_entries(made, booked) if d.id not in explained)
            rescan = rescan.with_part(until, len(batch.events), found)
            if self.writes_books:
                self.journal.store_rescan(rescan)
            if progress is not None:
                progress(start, until, cursor.number)
        if self.writes_books:
            self.journal.end_rescan(rescan)
        return rescan.events, list(rescan.differences())

    def _read_range(self, at: int, until: int) -> EventBatch:
        return self.chain.events(after=at, after_hash="", to=until)

    def drift(self, seen: Observation | None = None) -> Usdc:
        """Sum the unexplained differences between our accounts' balances and the journal.

        Too much in one account makes up for nothing that is missing in another. At the books' last
        block, in either direction; ``seen`` saves a read where that is its head.
        """
        for _ in range(_COMPARE_TRIES):
            cursor = self.books.cursor()
            if cursor is None:
                return ZERO
            found = list(self._balance_differences(cursor, seen))
            explained = self.operations.explained() if found else frozenset()
            found = [difference for difference in found if difference.id not in explained]
            if not found or self.books.cursor() == cursor:
                amounts = (d.amount for d in found if d.amount is not None)
                return sum((max(a, ZERO - a) for a in amounts), ZERO)
        return ZERO

    def _compare(self, cursor: Block, everything: bool) -> Iterator[Discrepancy]:
        yield from differences_in_books(self.books, self.journal, self.operations)
        for fault in self.row_faults():
            yield Discrepancy(_ROW_DIFFERS, fault, "coordinator audit verify", about=fault)
        yield from self._escrow_differences(cursor, everything)
        yield from self._balance_differences(cursor)

    def _balance_differences(
        self, cursor: Block, seen: Observation | None = None
    ) -> Iterator[Discrepancy]:
        accounts = self.books.accounts()
        booked = self.journal.account_balances(a.address for a in accounts)
        held = usdc_at(self.chain, open_at(accounts, cursor.number + 1), cursor, seen)
        for account in booked:
            # What is ours no more was closed with all that it had.
            difference = held.get(account, ZERO) - booked[account]
            if difference == ZERO:
                continue
            yield Discrepancy(
                "balance_differs",
                f"the treasury's account {account} holds {held.get(account, ZERO)} USDC in block"
                f" {cursor.number}; the journal says {booked[account]}",
                "coordinator reconcile explain",
                amount=difference,
                about=f"{account} {difference}",
            )

    def _escrow_differences(self, cursor: Block, everything: bool) -> Iterator[Discrepancy]:
        now = self.clock()
        agreed = {} if everything else self.comparisons.agreed(now=now)
        known, booked = self.books.escrows(), self.journal.escrow_balances()
        pages = [known[start : start + _PAGE] for start in range(0, len(known), _PAGE)]
        digests = [_digest(page, booked) for page in pages]
        due = [number for number, digest in enumerate(digests) if agreed.get(number) != digest]
        parts = [
            due[start : start + _PAGES_AT_ONCE] for start in range(0, len(due), _PAGES_AT_ONCE)
        ]
        told = (self._told([e for number in part for e in pages[number]], cursor) for part in parts)
        agreeing = {}
        for part, answer in zip(parts, ahead(told), strict=True):
            for number in part:
                found = list(_page_differences(pages[number], booked, answer))
                if not found:
                    agreeing[number] = digests[number]
                yield from found
        if self.writes_books:
            self.comparisons.store(agreeing, now=now)

    def _told(self, part: Sequence[EscrowRow], cursor: Block) -> _Told:
        """The escrows and payments as the chain tells them."""
        number = cursor.number
        escrows = [escrow for escrow in part if not escrow.is_payment]
        ids = [escrow.escrow_id for escrow in escrows]
        keys = [escrow.escrow_key for escrow in escrows if escrow.escrow_key]
        nonces = [_nonce(escrow) for escrow in part if escrow.is_payment]
        return _Told(
            self.chain.escrows_at(ids, block_number=number) if ids else {},
            self.chain.held_for(keys, block_number=number) if keys else {},
            self.chain.authorisations_used(nonces, block_number=number) if nonces else (),
        )


class _Told(NamedTuple):
    """Escrows on chain by id, what the vault holds under each key, and payments that were taken."""

    on_chain: Mapping[str, EscrowOnChain]
    held: Mapping[str, Usdc]
    used: Collection[tuple[str, str]]


def _nonce(payment: EscrowRow) -> tuple[str, str]:
    return payment.requester or "", payment.escrow_id


def _page_differences(
    part: Sequence[EscrowRow], booked: Mapping[str, Usdc], told: _Told
) -> Iterator[Discrepancy]:
    for escrow in part:
        if escrow.is_payment:
            yield from _use_difference(escrow, told.used)
            continue
        yield from _state_difference(escrow, told.on_chain.get(escrow.escrow_id))
        if escrow.escrow_key:
            left = told.held[escrow.escrow_key]
            yield from _held_difference(escrow, left, booked.get(escrow.escrow_key, ZERO))


def _digest(part: Sequence[EscrowRow], booked: Mapping[str, Usdc]) -> str:
    """The digest of all that the page's escrows are compared by."""
    return page_digest(
        [
            (
                escrow.escrow_id,
                escrow.escrow_key,
                escrow.amount.base_units,
                escrow.state.value,
                booked.get(escrow.escrow_key or "", ZERO).base_units,
            )
            for escrow in part
        ]
    )


def _held_difference(escrow: EscrowRow, left: Usdc, booked: Usdc) -> Iterator[Discrepancy]:
    if left != booked:
        yield Discrepancy(
            "escrow_balance_differs",
            f"the vault holds {left} USDC for it, the journal says {booked}",
            "coordinator reconcile explain",
            amount=left - booked,
            purchase_id=escrow.purchase_id,
            escrow_id=escrow.escrow_id,
        )


def _use_difference(payment: EscrowRow, used: Collection[tuple[str, str]]) -> Iterator[Discrepancy]:
    if _nonce(payment) not in used:
        yield Discrepancy(
            "state_behind",
            f"the token says that its authorisation was never used, the ledger {payment.state}",
            "coordinator recover",
            purchase_id=payment.purchase_id,
            escrow_id=payment.escrow_id,
        )


def _state_difference(escrow: EscrowRow, seen: EscrowOnChain | None) -> Iterator[Discrepancy]:
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
