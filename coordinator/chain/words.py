"""ABI values of one word each, which most logs and results are made of.

Of these a general decoder takes fifty times as long, and a treasury's past has millions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from coordinator.domain.address import checksummed

WORD_DIGITS: Final = 64
# Where an address begins in its word.
ADDRESS_AT: Final = 24
_UINT: Final = "uint"
_UINT_BITS: Final = 256
_ADDRESS_PADDING: Final = "0" * ADDRESS_AT
_WORD: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)

Reader = Callable[[str], Any]
"""Decodes one word of 64 lower-case hex digits; ValueError for one that is not of its type."""


def readers(types: Sequence[str]) -> tuple[Reader, ...] | None:
    """The readers of such values, 32 bytes as hex; None when one of them is of another kind."""
    found = [_reader(kind) for kind in types]
    known = tuple(reader for reader in found if reader is not None)
    return known if len(known) == len(found) else None


def encoded(types: Sequence[str], values: Sequence[Any]) -> str | None:
    """The values as words, in hex; None when one is of another kind, or not of its type."""
    if len(types) != len(values):
        return None
    words = [_word(kind, value) for kind, value in zip(types, values, strict=True)]
    known = [word for word in words if word is not None]
    return "".join(known) if len(known) == len(words) else None


def split(digits: str, count: int) -> list[str]:
    """The first ``count`` words of a result or a log; ValueError when there are fewer."""
    if len(digits) < count * WORD_DIGITS:
        raise ValueError(f"{count} words are due, and {len(digits) // WORD_DIGITS} came")
    return [digits[at : at + WORD_DIGITS] for at in range(0, count * WORD_DIGITS, WORD_DIGITS)]


def hex_digits(text: str) -> str:
    """The digits of hex text in lower case; ValueError for anything else."""
    return bytes.fromhex(text.removeprefix("0x")).hex()


def _word(kind: str, value: Any) -> str | None:
    if kind == "address" and isinstance(value, str):
        return _address_word(value)
    if kind == "bytes32" and isinstance(value, str) and _WORD.fullmatch(value):
        return value[2:].lower()
    bits = _bits(kind)
    if bits is None or type(value) is not int or value < 0 or value >> bits:
        return None
    return f"{value:0{WORD_DIGITS}x}"


@lru_cache(maxsize=1_000)
def _address_word(text: str) -> str | None:
    try:
        return _ADDRESS_PADDING + checksummed(text)[2:].lower()
    except ValueError:
        return None


def _bits(kind: str) -> int | None:
    digits = kind.removeprefix(_UINT)
    return int(digits) if kind.startswith(_UINT) and digits.isdecimal() else None


def _reader(kind: str) -> Reader | None:
    if kind == "address":
        return _address
    if kind == "bool":
        return _bool
    if kind == "bytes32":
        return _bytes32
    bits = _bits(kind)
    return _uint(bits) if bits is not None else None


def _address(word: str) -> str:
    if not word.startswith(_ADDRESS_PADDING):
        raise ValueError(f"0x{word} is no address")
    return "0x" + word[len(_ADDRESS_PADDING) :]


def _bool(word: str) -> bool:
    value = int(word, 16)
    if value > 1:
        raise ValueError(f"0x{word} is no truth value")
    return bool(value)


def _bytes32(word: str) -> str:
    return "0x" + word


def _any_uint(word: str) -> int:
    return int(word, 16)


def _uint(bits: int) -> Reader:
    if bits == _UINT_BITS:
        return _any_uint

    def read(word: str) -> int:
        value = int(word, 16)
        if value >> bits:
            raise ValueError(f"0x{word} has more than {bits} bits")
        return value

    return read
