"""Follow the chain: read new blocks into the books, roll lost ones back to the fork."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from coordinator.books.near_head import NearHead
from coordinator.books.ranges import Span
from coordinator.domain.chain.accounts import open_at
from coordinator.domain.chain.events import WATCHED, Block, EventBatch
from coordinator.domain.chain.steps import Receipt, StepKind
from coordinator.domain.errors import ChainUnavailable, ImpossibleState
from coordinator.domain.ports import ChainReader, Clock, KillPoint, Observation, Reach, Unlinked
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.chain.steps import StepBook

log = logging.getLogger(__name__)

# So many blocks before the head are read as what a reorganisation may still take back.
_TAIL_MAX: Final = 240
_LOOKS: Final = 3
# Steps whose success has no event that is followed.
_SILENT: Final = (StepKind.APPROVE, StepKind.FILL)

Progress = Callable[[int, int, int], None]
"""Called with (first block, block reached, last block)."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Count of new events, and the receipts read with them; None where none were read."""

    events: int
    receipts: Mapping[str, Receipt] | None


@dataclass(slots=True, kw_only=True)
class Follower:
    """Reads events since the cursor into the books. It never signs anything."""

    chain: ChainReader
    books: ChainBook
    steps: StepBook
    start_block: int
    clock: Clock
    reach: Reach
    _near: NearHead = field(init=False)

    def __post_init__(self) -> None:
        self._near = NearHead(self.chain, self.books)

    def follow(
        self, seen: Observation, *, finalise: bool = True, progress: Progress | None = None
    ) -> Followed:
        """Bring the books to what ``seen`` shows as readable and, with ``finalise``, as final.

        Logs above the final block count only with a block that is on the chain, and as all that
        there are only where they explain the state after it. No block is final
        in the books before its events were read a second time, in a later call, and found whole,
        and its hash was told by every endpoint; what an endpoint had left out is put in.
        """
        cursor = self.books.cursor() or self._open(seen.head.number)
        # Reading on from near the head proves that the books' block is on the chain.
        proves = self._tail(seen.readable, seen.final_number) <= cursor.number < seen.readable
        before = cursor if proves else self._back_to_fork(cursor)
        try:
            done = self._forward(before, seen, seen.readable, seen.final_number, progress)
        except Unlinked:
            before = self._back_to_fork(self.books.cursor() or cursor)
            done = self._forward(before, seen, seen.readable, seen.final_number, progress)
        if finalise and seen.final is not None:
            self._finalise(before, seen, seen.final, progress)
        return done

    def _tail(self, to: int, final_number: int) -> int:
        """Return the block from which on the chain may be reorganised."""
        return max(final_number, to - _TAIL_MAX)

    def _forward(
        self,
        cursor: Block,
        seen: Observation,
        to: int,
        final_number: int,
        progress: Progress | None = None,
    ) -> Followed:
        """Read on to block ``to``; ranges that the endpoint refuses are halved."""
        first, span, done = cursor.number, Span(), Followed(0, None)
        tail = self._tail(to, final_number)
        while cursor.number < to:
            limit = to if cursor.number >= tail else min(tail, to)
            read = partial(self._read, cursor, tail, seen)
            batch = span.read(read, after=cursor.number, to=limit)
            if done.receipts is None:
                done = Followed(0, self._receipts(seen, batch))
            self._check_complete(batch, done.receipts or {})
            self.reach(KillPoint.EVENTS_READ)
            if self.books.apply(batch, now=self.clock()):
                done = Followed(done.events + len(batch.events), done.receipts)
                self.reach(KillPoint.EVENTS_STORED)
            cursor = self.books.cursor() or cursor
            if progress is not None:
                progress(first, cursor.number, to)
        return done

    def _read(self, cursor: Block, tail: int, seen: Observation, until: int) -> EventBatch:
        """Read the events of (cursor, until]; beyond block ``tail`` only of blocks on the chain."""
        if until > tail:
            return self._near.read(cursor, until, seen)
        return self.chain.events(after=cursor.number, after_hash=cursor.hash, to=until)

    def _open(self, head: int) -> Block:
        number = max(0, self.start_block - 1)
        block = self.chain.block(number)
        try:
            accounts = open_at(self.books.accounts(), number + 1)
            balances = self.chain.usdc_of(accounts, block_number=number)
        except ChainUnavailable as fault:
            raise ChainUnavailable(
                f"the endpoint has no balance for block {number}, where the journal would"
                f" begin: set COORDINATOR_START_BLOCK to a recent block ({fault})"
            ) from fault
        self.books.open(block, balances, head=head, now=self.clock())
        return self.books.cursor() or block

    def _receipts(self, seen: Observation, batch: EventBatch) -> Mapping[str, Receipt]:
        """Read the receipts of all that is in flight and whose nonces the chain has used."""
        used = [step for step in self.steps.in_flight() if step.nonce < seen.nonce]
        hashes = [attempt.hash for step in used for attempt in step.attempts]
        alone = batch.to if batch.to.number == batch.after + 1 else None
        return self.chain.receipts(hashes, block=alone) if hashes else {}

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
        self, before: Block, seen: Observation, final: Block, progress: Progress | None
    ) -> None:
        """Read blocks up to ``before`` a second time once they are final.

        Each range that agrees is final in the books at once: whoever is interrupted goes on there.
        """
        known, target = self.books.final(), final if final.number <= before.number else before
        if known is None or target.number <= known.number:
            return
        first, span = known.number, Span()
        while known.number < target.number:
            read = partial(self._read, known, target.number, seen)
            batch = span.read(read, after=known.number, to=target.number)
            if batch.to.number == target.number and batch.to.hash != target.hash:
                raise ChainUnavailable(f"the endpoint has another block {target.number}")
            if not self._agrees(batch):
                log.error("books_differ after=%s to=%s", known.number, batch.to.number)
                cursor = self.books.cursor() or before
                cursor = self._roll_back(cursor, known)
                self._forward(cursor, seen, seen.readable, target.number)
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

    def _check_complete(self, batch: EventBatch, receipts: Mapping[str, Receipt]) -> None:
        """Refuse logs that leave out what a receipt proves: a node may know a block alone."""
        told = {event.tx_hash for event in batch.events if event.kind not in WATCHED}
        silent = None
        for tx_hash, receipt in receipts.items():
            within = batch.after < receipt.block_number <= batch.to.number
            if not within or not receipt.succeeded or tx_hash in told:
                continue
            silent = self._silent() if silent is None else silent
            if tx_hash not in silent:
                raise ChainUnavailable(
                    f"the endpoint leaves the logs of {tx_hash} out of block {receipt.block_number}"
                )

    def _silent(self) -> set[str]:
        """Find the hashes in flight whose success has no event that is followed."""
        return {
            attempt.hash
            for step in self.steps.in_flight()
            for attempt in step.attempts
            if step.kind in _SILENT or attempt.fills
        }
