"""Differences that the books show by themselves, without asking the chain again."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.reconciliation import Discrepancy
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.chain.journal_book import JournalBook
from coordinator.ledger.tx.operations import OperationsBook


def differences_in_books(
    books: ChainBook, journal: JournalBook, operations: OperationsBook
) -> Iterator[Discrepancy]:
    """Every such difference that nobody has explained."""
    explained = operations.explained()
    found = [*_unknown_escrows(books), *_outflows(journal), *_counts(journal)]
    return (item for item in found if item.id not in explained)


def _unknown_escrows(books: ChainBook) -> Iterator[Discrepancy]:
    for escrow in books.escrows(unknown=True):
        if escrow.escrow_key is None and escrow.state is EscrowState.CANCELLED:
            continue  # never held anything, and never can
        # What was explained while the escrow was empty does not explain that it was paid.
        if escrow.is_payment:
            what = "paid by an authorisation of the wallet's key, and no agent asked for it"
        elif escrow.purchase_id is None:
            what = "opened by this treasury and known to no purchase"
        else:
            what = "paid with the treasury's key, and no agent asked for it"
        yield Discrepancy(
            "unknown_escrow",
            f"{escrow.amount} USDC for {escrow.provider}: {what}",
            "coordinator reconcile explain; an audit export that tells of it can only be read into"
            " an empty database, with coordinator rebuild --audit FILE",
            amount=escrow.amount,
            escrow_id=escrow.escrow_id,
        )


def _outflows(journal: JournalBook) -> Iterator[Discrepancy]:
    for entry in journal.unexplained_outflows():
        yield Discrepancy(
            "unexplained_outflow",
            f"left for {entry.debit.removeprefix('address:')} in {entry.tx_hash}, without a"
            " purchase or an approved withdrawal",
            "coordinator pause, then coordinator reconcile explain",
            amount=entry.amount,
            about=f"{entry.tx_hash}:{entry.log_index}",
        )


def _counts(journal: JournalBook) -> Iterator[Discrepancy]:
    for purchase_id, posted, booked in journal.posted_without_entries():
        yield Discrepancy(
            "posted_differs",
            f"its hold was posted with {posted} USDC; its entries say {booked}",
            "coordinator audit verify",
            amount=posted - booked,
            purchase_id=purchase_id,
        )
    for counter, counted, booked in journal.counters_that_differ():
        yield Discrepancy(
            "counter_differs",
            f"the counter {counter} says {counted} USDC; the holds that charged it say {booked}",
            "coordinator audit verify",
            amount=counted - booked,
        )
