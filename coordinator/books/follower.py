"""Follow the chain: read new blocks into the books, roll lost ones back to the fork."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from coordinator.books.ranges import Span
from coordinator.domain.chain.events import Block, EventBatch
from coordinator.domain.chain.steps import Receipt, StepKind
from coordinator.domain.errors import ChainUnavailable, ImpossibleState
from coordinator.domain.ports import ChainReader, Clock, KillPoint, Observation, Reach
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.chain.steps import StepBook

log = logging.getLogger(__name__)

# Blocks near the head are read one by one, by their hashes: so many in one batch of requests.
_TAIL_AT_ONCE: Final = 12
_TAIL_MAX: Final = 240
_LOOKS: Final = 3
# Steps whose success has no event that is followed.
_SILENT: Final = (StepKind.APPROVE, StepKind.FILL)

Progress = Callable[[int, int, int], None]
"""Called with (first block, block reached, last block)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Reads events since the cursor into the books. It never signs anything."""

    chain: ChainReader
    books: ChainBook
    steps: StepBook
    start_block: int
    clock: Clock
    reach: Reach

    def follow(self, seen: Observation, *, progress: Progress | None = None) -> int:
        """Bring the books up to ``seen``; returns the number of new events.

        Blocks above the final one are read by their hashes. No block is final in the books before
        its events were read a second time, in a later call, and found whole, and its hash was told
        by every endpoint; what an endpoint had left out is put in.
        """
        before = self._cursor()
        events = self._forward(before, seen.readable, seen.final_number, progress)
        if seen.final is not None:
            self._finalise(before, seen.final, seen.readable, progress)
        return events

    def _cursor(self) -> Block:
        """Roll the books back to the fork if needed, and return their block."""
        return self._back_to_fork(self.books.cursor() or self._open())

    def _forward(
        self, cursor: Block, to: int, final_number: int, progress: Progress | None = None
    ) -> int:
        """Read on to block ``to``; ranges that the endpoint refuses are halved."""
        first, span, events = cursor.number, Span(), 0
        tail = max(final_number, to - _TAIL_MAX)
        evidence = self._receipts() if cursor.number < to else {}
        while cursor.number < to:
            limit = min(max(tail, cursor.number + _TAIL_AT_ONCE), to)
            read = partial(self._read, cursor, tail)
            batch = span.read(read, after=cursor.number, to=limit)
            _check_complete(batch, evidence)
            self.reach(KillPoint.EVENTS_READ)
            if self.books.apply(batch, now=self.clock()):
                events += len(batch.events)
                self.reach(KillPoint.EVENTS_STORED)
            cursor = self.books.cursor() or cursor
            if progress is not None:
                progress(first, cursor.number, to)
        return events

    def _read(self, cursor: Block, tail: int, until: int) -> EventBatch:
        """Read the events of (cursor, until]; beyond block ``tail`` by the blocks' hashes."""
        read = self.chain.tail if until > tail else self.chain.events
        return read(after=cursor.number, after_hash=cursor.hash, to=until)

    def _open(self) -> Block:
        number = max(0, self.start_block - 1)
        block = self.chain.block(number)
        try:
            balance, _ = self.chain.balances([], block_number=number)
        except ChainUnavailable as fault:
            raise ChainUnavailable(
                f"the endpoint has no balance for block {number}, where the journal would"
                f" begin: set COORDINATOR_START_BLOCK to a recent block ({fault})"
            ) from fault
        self.books.open(block, balance, now=self.clock())
        return self.books.cursor() or block

    def _receipts(self) -> Mapping[str, Receipt]:
        in_flight = [step for step in self.steps.in_flight() if step.kind not in _SILENT]
        attempts = [a for step in in_flight for a in step.attempts if not a.fills]
        return self.chain.receipts([attempt.hash for attempt in attempts])

    def _back_to_fork(self, cursor: Block) -> Block:
        """Return the cursor, after rolling the books back if its block was lost."""
        if self.chain.block(cursor.number).hash == cursor.hash:
            return cursor
        if self._proved_hash(cursor.number) == cursor.hash:
            return cursor
        mark, final = self.books.mark(below=cursor.number), self.books.final()
        while mark is not None:
            number, block_hash = mark
            # That final blocks are gone is not believed while an endpoint that may know is silent.
            doubted = final is not None and number <= final.number
            if self._proved_hash(number, all_of_them=doubted) == block_hash:
                return self._roll_back(cursor, self.chain.block(number))
            mark = self.books.mark(below=number)
        raise ImpossibleState(
            f"no block that the books were written from is on the chain any more, from block"
            f" {cursor.number} back: the endpoint is on another chain"
        )

    def _roll_back(self, cursor: Block, fork: Block) -> Block:
        done = self.books.roll_back(cursor, fork, now=self.clock())
        if done is not None:
            log.warning(
                "rolled_back from=%s to=%s entries=%s steps=%s purchases=%s",
                cursor.number,
                fork.number,
                done.entries,
                done.steps,
                done.purchases,
            )
            self.reach(KillPoint.ROLLED_BACK)
        return self.books.cursor() or fork

    def _proved_hash(self, number: int, *, all_of_them: bool = False) -> str:
        """Return the block's hash on which all answering endpoints, or three reads of one, agree.

        ChainUnavailable while they disagree, one node of a fleet may be wrong; with
        ``all_of_them`` also while one of them does not answer.
        """
        told = list(self.chain.hashes(number, all_of_them=all_of_them))
        while len(told) < _LOOKS:
            told += self.chain.hashes(number, all_of_them=all_of_them)
        if len(set(told)) > 1:
            log.error("endpoints_disagree block=%s hashes=%s", number, ",".join(sorted(set(told))))
            raise ChainUnavailable(f"the endpoints disagree about block {number}")
        return told[0]

    def _prove(self, block: Block) -> None:
        """Raise ChainUnavailable unless the block has the hash of ``_proved_hash``."""
        told = self._proved_hash(block.number)
        if told != block.hash:
            log.error("endpoints_disagree block=%s hashes=%s,%s", block.number, block.hash, told)
            raise ChainUnavailable(f"block {block.number} is not the one that was told before")

    def _finalise(
        self, before: Block, final: Block, readable: int, progress: Progress | None
    ) -> None:
        """Read blocks up to ``before`` a second time once they are final.

        Each range that agrees is final in the books at once: whoever is interrupted goes on there.
        """
        known, target = self.books.final(), final if final.number <= before.number else before
        if known is None or target.number <= known.number:
            return
        first, span = known.number, Span()
        while known.number < target.number:
            read = partial(self._read, known, target.number)
            batch = span.read(read, after=known.number, to=target.number)
            if batch.to.number == target.number and batch.to.hash != target.hash:
                raise ChainUnavailable(f"the endpoint has another block {target.number}")
            if not self._agrees(batch):
                log.error("books_differ after=%s to=%s", known.number, batch.to.number)
                cursor = self.books.cursor() or before
                self._forward(self._roll_back(cursor, known), readable, target.number)
                return
            known = batch.to
            self._prove(known)
            self.books.store_final(known)
            if progress is not None:
                progress(first, known.number, target.number)

    def _agrees(self, batch: EventBatch) -> bool:
        """Return whether the books have exactly the batch's events.

        ChainUnavailable when the batch lacks what stands in a block of the chain: a block's events
        never change, so it is the endpoint that leaves them out.
        """
        found = self.books.compare(batch)
        if found.missing or any(self._proved_hash(n) != h for n, h in sorted(found.surplus)):
            return False
        if found.surplus:
            number, _ = min(found.surplus)
            raise ChainUnavailable(f"the endpoint leaves logs of block {number} out")
        return True


def _check_complete(batch: EventBatch, evidence: Mapping[str, Receipt]) -> None:
    """Refuse logs without an event that a receipt proves: a node may have a block without logs."""
    told = {event.tx_hash for event in batch.events}
    for tx_hash, receipt in evidence.items():
        within = batch.after < receipt.block_number <= batch.to.number
        if within and receipt.succeeded and tx_hash not in told:
            raise ChainUnavailable(
                f"the endpoint leaves the logs of {tx_hash} out of block {receipt.block_number}"
            )
