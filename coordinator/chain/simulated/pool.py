"""The pool of transactions that wait to be mined, by sender and nonce."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from coordinator.chain.simulated.transactions import Transaction

NonceOf = Callable[[str], int]
_BUMP_PERCENT: Final = 10


class Refused(Exception):
    """A JSON-RPC error: the node takes or answers it not."""

    def __init__(self, message: str, code: int = -32000, data: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.data = data


class Pool:
    """At most one transaction for each nonce of a sender; nothing is ever lost by itself.

    ``strict``: a replacement needs 10 % more on both fees, and a sender's balance must cover all
    that waits from it. Otherwise any higher fee replaces, and each is paid for by itself.
    """

    def __init__(self, *, strict: bool, limit_per_sender: int | None) -> None:
        self._strict = strict
        self._limit = limit_per_sender
        self._by_sender: dict[str, dict[int, Transaction]] = {}
        self._by_hash: dict[str, Transaction] = {}
        self._arrivals: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, tx_hash: str) -> Transaction | None:
        return self._by_hash.get(tx_hash)

    def add(self, tx: Transaction, *, nonce: int, balance: int) -> None:
        """Take it in; Refused in the words of a node's pool."""
        if tx.hash in self._by_hash:
            raise Refused("already known")
        if tx.nonce < nonce:
            raise Refused(f"nonce too low: next nonce {nonce}, tx nonce {tx.nonce}")
        waiting = self._by_sender.get(tx.sender, {})
        old = waiting.get(tx.nonce)
        self._check_funds(tx, waiting, old, balance)
        if old is not None and not self._outbids(tx, old):
            raise Refused("replacement transaction underpriced")
        if old is None and self._limit is not None and len(waiting) >= self._limit:
            raise Refused("txpool is full")
        if old is not None:
            self.drop(old.hash)
        self._by_sender.setdefault(tx.sender, {})[tx.nonce] = tx
        self._by_hash[tx.hash] = tx
        self._count += 1
        self._arrivals[tx.hash] = self._count

    def _check_funds(
        self,
        tx: Transaction,
        waiting: dict[int, Transaction],
        old: Transaction | None,
        balance: int,
    ) -> None:
        queued = 0
        if self._strict:
            queued = sum(t.cost for t in waiting.values()) - (old.cost if old else 0)
        if tx.cost + queued > balance:
            text = f"balance {balance}, queued cost {queued}, tx cost {tx.cost}"
            raise Refused(f"insufficient funds for gas * price + value: {text}")

    def _outbids(self, tx: Transaction, old: Transaction) -> bool:
        if not self._strict:
            return tx.max_fee > old.max_fee
        fees = ((tx.max_fee, old.max_fee), (tx.tip, old.tip))
        return all(
            new > before and new * 100 >= before * (100 + _BUMP_PERCENT) for new, before in fees
        )

    def drop(self, tx_hash: str) -> bool:
        """Lose one transaction; those behind it wait for its nonce."""
        tx = self._by_hash.pop(tx_hash, None)
        if tx is None:
            return False
        del self._arrivals[tx_hash]
        waiting = self._by_sender[tx.sender]
        del waiting[tx.nonce]
        if not waiting:
            del self._by_sender[tx.sender]
        return True

    def clear(self) -> None:
        self._by_sender.clear()
        self._by_hash.clear()
        self._arrivals.clear()

    def forget_mined(self, sender: str, nonce: int) -> None:
        """Drop what can't be mined any more, because the sender's next nonce is ``nonce``."""
        for used in [n for n in self._by_sender.get(sender, ()) if n < nonce]:
            self.drop(self._by_sender[sender][used].hash)

    def evict_below(self, base_fee: int) -> None:
        """Drop what can't pay ``base_fee``."""
        for tx in [t for t in self._by_hash.values() if t.max_fee < base_fee]:
            self.drop(tx.hash)

    def next_nonce(self, sender: str, nonce: int) -> int:
        """The nonce after the last that could be mined with those before it."""
        waiting = self._by_sender.get(sender, {})
        while nonce in waiting:
            nonce += 1
        return nonce

    def content(self, nonce_of: NonceOf) -> tuple[list[Transaction], list[Transaction]]:
        """(what could be mined, what waits for a nonce before it), each by sender and nonce."""
        pending: list[Transaction] = []
        queued: list[Transaction] = []
        for sender, waiting in self._by_sender.items():
            end = self.next_nonce(sender, nonce_of(sender))
            for nonce in sorted(waiting):
                (pending if nonce < end else queued).append(waiting[nonce])
        return pending, queued

    def best_first(self, base_fee: int, nonce_of: NonceOf) -> Iterator[Transaction]:
        """Order the transactions for a block: by tip, then arrival, each sender in nonce order.

        A sender goes on with its next nonce when ``nonce_of`` tells that the last was mined.
        """
        heap: list[tuple[int, int, str, int]] = []

        def offer(sender: str) -> None:
            tx = self._by_sender[sender].get(nonce_of(sender))
            if tx is not None and tx.max_fee >= base_fee:
                heapq.heappush(
                    heap, (-tx.paid_tip(base_fee), self._arrivals[tx.hash], sender, tx.nonce)
                )

        for sender in self._by_sender:
            offer(sender)
        while heap:
            _, _, sender, nonce = heapq.heappop(heap)
            yield self._by_sender[sender][nonce]
            if nonce_of(sender) > nonce:
                offer(sender)
