"""Words of contracts' storage: what each of their parts must be, and in words what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.usdc import Usdc

Shown = Callable[[int], str]
"""Says a number as people read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The ``bits`` of a word from ``start`` on, counted from its lowest, and what they must be.

    With ``at_most`` less will do too.
    """

    title: str
    value: int
    start: int = 0
    bits: int = 256
    at_most: bool = False
    shown: Shown = str

    def difference(self, word: int) -> str | None:
        """Return in words how the part differs; None when it does not."""
        found = word >> self.start & (1 << self.bits) - 1
        if found == self.value or (self.at_most and found < self.value):
            return None
        allowed = "more than" if self.at_most else "not"
        return f"{self.title} is {self.shown(found)}, {allowed} {self.shown(self.value)}"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a contract's storage, whose parts are all of its bits."""

    contract: str
    slot: int
    parts: tuple[Part, ...]

    def differences(self, found: int) -> Iterator[str]:
        return (text for part in self.parts if (text := part.difference(found)) is not None)


def mapped(key: bytes, slot: int) -> int:
    """Return the slot of a mapping's value; ``key`` is a whole word."""
    return int.from_bytes(keccak256(key + slot.to_bytes(32, "big")), "big")


def address(found: int) -> str:
    """Say an address of storage; anything else, and the zero address, as a number."""
    if not 1 < found < 1 << 160:
        return "nothing" if not found else hex(found)
    return checksummed(f"0x{found:040x}")


def usdc(found: int) -> str:
    return f"{Usdc.from_base_units(found)} USDC"


def seconds(found: int) -> str:
    return f"{found} s"
