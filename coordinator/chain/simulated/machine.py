"""The chain as a machine: takes transactions, makes blocks, and goes back; no JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.chain.simulated.answers import log_answer, receipt_answer
from coordinator.chain.simulated.blocks import Block, Chain, Mined, block_hash
from coordinator.chain.simulated.execution import Outcome, run
from coordinator.chain.simulated.gas import BASE, FeeMarket
from coordinator.chain.simulated.genesis import Rail, balance_key, nonce_key
from coordinator.chain.simulated.pool import Pool, Refused
from coordinator.chain.simulated.state import Key, Overlay
from coordinator.chain.simulated.transactions import Transaction

_NO_PARENT: Final = "0x" + "00" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The node's strictness, and its chain's parameters.

    ``safe`` is ``epoch_blocks`` behind the head, ``finalized`` twice as many. With
    ``states_kept`` older states than so many blocks are forgotten, as public endpoints do.
    """

    strict: bool = True
    market: FeeMarket = BASE
    base_fee_wei: int = 5_000_000
    tip_wei: int = 1_000_000
    tip_min_wei: int = 0
    gas_limit: int = 400_000_000
    epoch_blocks: int = 32
    limit_per_sender: int | None = None
    states_kept: int | None = None


class Machine:
    """One chain and its pool. Equal seeds and equal actions give equal hashes."""

    def __init__(self, chain_id: int, *, clock: Callable[[], int], seed: int, rules: Rules) -> None:
        self.chain_id = chain_id
        self.rules = rules
        self.rail = Rail(chain_id)
        self.automine = True
        self.pool = Pool(strict=rules.strict, limit_per_sender=rules.limit_per_sender)
        self._clock = clock
        self._seed = seed.to_bytes(32, "big", signed=True)
        self._forks = 0
        self._offset = 0
        self._exact: int | None = None
        self._base_fee: int | None = None
        state = self.rail.first_state()
        self.chain = Chain(self._sealed(_NO_PARENT, 0, clock(), rules.base_fee_wei, (), state))

    # Time.

    def now(self) -> int:
        """The unix second here: the clock and all time that was passed; never behind the head."""
        return max(self._clock() + self._offset, self.chain.head.timestamp)

    def pass_time(self, seconds: int) -> None:
        """The next block, and all after it, are so much later."""
        self._offset += seconds

    def next_block_at(self, timestamp: int) -> None:
        """The next block has this time, and time goes on from there."""
        if timestamp < self.chain.head.timestamp:
            raise Refused("timestamp is before the latest block's", -32602)
        self._exact = timestamp

    def _next_timestamp(self) -> int:
        if self._exact is not None:
            exact, self._exact = self._exact, None
            self._offset = exact - self._clock()
            return exact
        return max(self._clock() + self._offset, self.chain.head.timestamp + 1)

    # State.

    def balance(self, account: str) -> int:
        return int(self.chain.state.get(balance_key(account)))

    def nonce(self, account: str) -> int:
        return int(self.chain.state.get(nonce_key(account)))

    def write(self, key: Key, value: Any) -> None:
        """Change the newest state without a transaction."""
        self.chain.amend({key: value})

    # Transactions.

    def submit(self, tx: Transaction) -> str:
        """Put a transaction into the pool, and with automine into a block; its hash."""
        if tx.chain_id != self.chain_id:
            raise Refused("invalid chain id for signer")
        if tx.to is None:
            raise Refused("creating contracts is not simulated")
        if tx.gas > self.rules.gas_limit:
            raise Refused("exceeds block gas limit")
        if tx.tip > tx.max_fee:
            raise Refused("max priority fee per gas higher than max fee per gas")
        if tx.gas < tx.intrinsic_gas:
            raise Refused(f"intrinsic gas too low: gas {tx.gas}, minimum {tx.intrinsic_gas}")
        if tx.tip < self.rules.tip_min_wei:
            raise Refused("transaction underpriced")
        self.pool.add(tx, nonce=self.nonce(tx.sender), balance=self.balance(tx.sender))
        if self.automine and self._anything_due():
            self.mine()
        return tx.hash

    def _anything_due(self) -> bool:
        return next(self.pool.best_first(self.next_base_fee(), self.nonce), None) is not None

    # Blocks.

    def next_base_fee(self) -> int:
        if self._base_fee is not None:
            return self._base_fee
        head = self.chain.head
        return self.rules.market.next_base_fee(head.base_fee, head.gas_used, head.gas_limit)

    def set_next_base_fee(self, wei: int) -> None:
        self._base_fee = wei

    def mine(self, blocks: int = 1, *, interval: int | None = None) -> None:
        """Blocks of what the pool has; with ``interval`` so many seconds apart."""
        for index in range(blocks):
            head = self.chain.head
            if interval and index:
                self.next_block_at(head.timestamp + interval)
            self._make_block(self._next_timestamp())

    def _make_block(self, timestamp: int, chosen: Sequence[Transaction] | None = None) -> None:
        base_fee, self._base_fee = self.next_base_fee(), None
        if not self.rules.strict:
            self.pool.evict_below(base_fee)
        state = Overlay(self.chain.state)

        def nonce(account: str) -> int:
            return int(state.get(nonce_key(account)))

        offered: Iterable[Transaction]
        if chosen is None:
            offered = self.pool.best_first(base_fee, nonce)
        else:
            offered = (tx for tx in chosen if tx.max_fee >= base_fee)
        ran, left = [], self.rules.gas_limit
        for tx in offered:
            covered = tx.cost <= state.get(balance_key(tx.sender))
            if tx.nonce != nonce(tx.sender) or not covered or tx.gas > left:
                continue
            outcome = run(self.rail.by_address, state, tx, timestamp=timestamp, base_fee=base_fee)
            left -= outcome.gas_used
            ran.append((tx, outcome))
        head = self.chain.head
        parent, number = head.hash, head.number + 1
        self.chain.append(self._sealed(parent, number, timestamp, base_fee, ran, state.writes))
        for sender in {tx.sender for tx, _ in ran}:
            self.pool.forget_mined(sender, self.nonce(sender))

    def _sealed(
        self,
        parent: str,
        number: int,
        timestamp: int,
        base_fee: int,
        ran: Sequence[tuple[Transaction, Outcome]],
        writes: Mapping[Key, Any],
    ) -> Block:
        salt = self._seed + self._forks.to_bytes(8, "big")
        hashes = [tx.hash for tx, _ in ran]
        block_id = block_hash(parent, number, timestamp, hashes, salt)
        mined, gas_used = [], 0
        logs: list[dict[str, Any]] = []
        for index, (tx, outcome) in enumerate(ran):
            gas_used += outcome.gas_used
            where = (number, block_id, timestamp, tx.hash, index)
            told = [log_answer(g, len(logs) + i, *where) for i, g in enumerate(outcome.logs)]
            logs += told
            mined.append(Mined(tx, receipt_answer(tx, outcome, told, gas_used, *where)))
        return Block(
            number,
            block_id,
            parent,
            timestamp,
            base_fee,
            gas_used,
            self.rules.gas_limit,
            tuple(mined),
            tuple(logs),
            writes,
        )

    # Going back.

    def reorg(
        self,
        depth: int,
        *,
        placed: Iterable[tuple[Transaction, int]] = (),
        lost: Collection[str] | None = (),
    ) -> list[Transaction]:
        """Replace the last ``depth`` blocks by others, as many and at the same times.

        ``placed`` are (transaction, block counted from 0) of the new blocks. What was in the old
        ones and is not placed goes back to the pool, but for hashes in ``lost``; with None all
        are lost. Returned are the transactions of the old blocks.
        """
        removed = self.rollback(depth)
        self._forks += 1
        by_block: dict[int, list[Transaction]] = {}
        for tx, offset in placed:
            by_block.setdefault(offset, []).append(tx)
        for index, block in enumerate(removed):
            self._make_block(block.timestamp, by_block.get(index, []))
        old = [mined.tx for block in removed for mined in block.mined]
        for tx in old if lost is not None else ():
            if tx.hash not in (lost or ()) and self.chain.mined(tx.hash) is None:
                self._take_back(tx)
        return old

    def rollback(self, depth: int) -> list[Block]:
        """Take the last ``depth`` blocks off, oldest first; their transactions are nowhere."""
        if not 0 <= depth <= self.chain.head.number:
            raise Refused(f"there are only {self.chain.head.number} blocks to take off", -32602)
        return [self.chain.pop() for _ in range(depth)][::-1]

    def _take_back(self, tx: Transaction) -> None:
        try:
            self.pool.add(tx, nonce=self.nonce(tx.sender), balance=self.balance(tx.sender))
        except Refused:
            # Another transaction has its nonce now.
            return

    def snapshot(self) -> int:
        return self.chain.snapshot((self._offset, self._exact, self._base_fee))

    def revert(self, number: int) -> bool:
        """Go back to a snapshot: blocks, state and time, but not the pool; False if unknown."""
        found = self.chain.revert(number)
        if found is None:
            return False
        self._offset, self._exact, self._base_fee = found
        self._forks += 1
        return True
