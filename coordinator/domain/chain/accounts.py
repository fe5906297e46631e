"""Accounts of our own: the journal follows any number of them, each from a block to a block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = "own:"


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """An account whose USDC is ours from ``first_block`` to ``last_block`` (None: to the end).

    Block 0 means from the journal's beginning. ``place`` is its number among all that were added.
    ``wallet`` tells that it makes x402 payments, and is not and was not the treasury.
    """

    address: str
    first_block: int = 0
    last_block: int | None = None
    place: int = 0
    wallet: bool = False

    @property
    def name(self) -> str:
        """Its name in entries."""
        return account_name(self.address)

    def has(self, block_number: int) -> bool:
        """Return whether it is ours in the block."""
        return self.first_block <= block_number and (
            self.last_block is None or block_number <= self.last_block
        )

    @property
    def opening_index(self) -> int:
        """Index of its opening in block ``first_block - 1``; no log has a negative one."""
        return -1 - 2 * self.place

    @property
    def closing_index(self) -> int:
        """Index of its closing in ``last_block``."""
        return -2 - 2 * self.place


def account_name(address: str) -> str:
    """Return the name of an account of ours in entries."""
    return _PREFIX + address.lower()


def open_at(accounts: Iterable[OwnAccount], block_number: int) -> list[str]:
    """Return the addresses that are ours in the block, in their order."""
    return list(dict.fromkeys(a.address for a in accounts if a.has(block_number)))
