"""The storage of a SafeL2 1.4.1: its owners, its threshold, and all that may act for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from coordinator.chain.safe.addresses import FALLBACK_HANDLER, SAFE
from coordinator.chain.safe.create2 import word
from coordinator.chain.safe.storage import Part, Word, address, mapped
from coordinator.domain.address import keccak256

_SINGLETON: Final = 0
_MODULES: Final = 1
_OWNERS: Final = 2
_OWNER_COUNT: Final = 3
_THRESHOLD: Final = 4
_HANDLER: Final = int.from_bytes(keccak256(b"fallback_manager.handler.address"), "big")
_GUARD: Final = int.from_bytes(keccak256(b"guard_manager.guard.address"), "big")
# Both ends of a list of modules or owners.
END: Final = "0x" + "1".rjust(40, "0")


def safe_words(safe: str, owners: Sequence[str], threshold: int, module: str) -> Iterator[Word]:
    """Yield what a Safe's storage must be, with ``module`` as its only one and without a guard."""
    yield code_word(safe)
    yield from module_words(safe, module)
    yield from listed(safe, _OWNERS, "the Safe's owner", owners)
    count = Part(title="the Safe's number of owners", value=len(owners))
    yield Word(safe, _OWNER_COUNT, (count,))
    signatures = Part(title="the Safe's threshold", value=threshold)
    yield Word(safe, _THRESHOLD, (signatures,))


def code_word(safe: str) -> Word:
    """Return which code the Safe runs, of whose change there is no event."""
    return _address(safe, _SINGLETON, "the code of the Safe", SAFE.address)


def module_words(safe: str, module: str) -> Iterator[Word]:
    """Yield what acts for a Safe beside its owners, whoever they are."""
    yield from listed(safe, _MODULES, "the Safe's module", [module])
    yield _address(safe, _HANDLER, "the Safe's fallback handler", FALLBACK_HANDLER.address)
    guard = Part(title="the Safe's guard", value=0, shown=address)
    yield Word(safe, _GUARD, (guard,))


def listed(contract: str, slot: int, title: str, members: Sequence[str]) -> Iterator[Word]:
    """Yield a list as contracts of Safe and Zodiac keep it, each member leading to the next."""
    for before, after in pairwise([END, *members, END]):
        place = "the first" if before == END else f"that behind {before}"
        yield _address(contract, mapped(word(before), slot), f"{title}, {place},", after)


def _address(contract: str, slot: int, title: str, value: str) -> Word:
    part = Part(title=title, value=int(value, 16), shown=_or_end)
    return Word(contract, slot, (part,))


def _or_end(found: int) -> str:
    return "none" if found == int(END, 16) else address(found)
