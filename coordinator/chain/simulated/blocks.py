"""Blocks: the chain as a list, with each block's writes, and rollback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.chain.simulated.state import Key, Store
from coordinator.chain.simulated.transactions import Transaction
from coordinator.domain.address import keccak256


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in its block, with its receipt as the node tells it."""

    tx: Transaction
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int
    gas_used: int
    gas_limit: int
    mined: tuple[Mined, ...] = ()
    logs: tuple[dict[str, Any], ...] = ()
    writes: Mapping[Key, Any] = field(default_factory=dict)


def block_hash(
    parent_hash: str, number: int, timestamp: int, tx_hashes: list[str], salt: bytes
) -> str:
    """Of everything that came before, so that a head's hash is the fingerprint of a run."""
    parts = [parent_hash[2:], f"{number:016x}{timestamp:016x}", *(h[2:] for h in tx_hashes)]
    return "0x" + keccak256(bytes.fromhex("".join(parts)) + salt).hex()


@dataclass(slots=True)
class _Snapshot:
    """The chain up to block ``base``, and then ``kept``, which is not on the chain any more."""

    base: int
    kept: list[Block]
    extra: Any


class Chain:
    """The canonical blocks and their state."""

    def __init__(self, genesis: Block) -> None:
        self.state = Store()
        self._blocks: list[Block] = []
        self._by_hash: dict[str, Block] = {}
        self._mined: dict[str, tuple[Block, Mined]] = {}
        self._snapshots: dict[int, _Snapshot] = {}
        self._snapshot_last = -1
        self.append(genesis)

    @property
    def head(self) -> Block:
        return self._blocks[-1]

    def block(self, number: int) -> Block | None:
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def by_hash(self, block_hash: str) -> Block | None:
        return self._by_hash.get(block_hash)

    def span(self, first: int, last: int) -> list[Block]:
        return self._blocks[max(0, first) : last + 1]

    def mined(self, tx_hash: str) -> tuple[Block, Mined] | None:
        return self._mined.get(tx_hash)

    def append(self, block: Block) -> None:
        self.state.commit(block.number, block.writes)
        self._blocks.append(block)
        self._by_hash[block.hash] = block
        for mined in block.mined:
            self._mined[mined.tx.hash] = (block, mined)

    def pop(self) -> Block:
        """Take the newest block off, and its state back; a snapshot of it still holds it."""
        block = self._blocks.pop()
        for snapshot in self._snapshots.values():
            if snapshot.base == block.number:
                snapshot.base -= 1
                snapshot.kept.insert(0, block)
        self.state.undo(block.writes)
        del self._by_hash[block.hash]
        for mined in block.mined:
            del self._mined[mined.tx.hash]
        return block

    def amend(self, writes: Mapping[Key, Any]) -> None:
        """Change the newest block's state without a transaction; a reorg takes it back too."""
        block = self.pop()
        self.append(replace(block, writes={**block.writes, **writes}))

    def snapshot(self, extra: Any) -> int:
        """Remember the chain as it is, and ``extra``; its number."""
        self._snapshot_last += 1
        self._snapshots[self._snapshot_last] = _Snapshot(self.head.number, [], extra)
        return self._snapshot_last

    def revert(self, number: int) -> Any:
        """Go back to a snapshot, which ends with those after it; its ``extra``, None if unknown."""
        snapshot = self._snapshots.get(number)
        if snapshot is None:
            return None
        self._snapshots = {n: s for n, s in self._snapshots.items() if n < number}
        while len(self._blocks) - 1 > snapshot.base:
            self.pop()
        for block in snapshot.kept:
            self.append(block)
        return snapshot.extra
