"""Ethereum addresses: checked, and written with the EIP-55 checksum."""

from __future__ import annotations

import re
from typing import Final

from Crypto.Hash import keccak as _keccak

ZERO_ADDRESS: Final = "0x" + "0" * 40
_SHAPE: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not SHA3-256) of ``data``."""
    return _keccak.new(digest_bits=256, data=data).digest()


def looks_like_address(text: str) -> bool:
    """Return whether ``text`` was meant as an address (starts with 0x), whatever it holds."""
    return text[:2] in ("0x", "0X")


def checksummed(text: str) -> str:
    """Return the address with its EIP-55 checksum.

    All-lower and all-upper hex carry no checksum and are accepted; mixed case must be right.
    Raises ValueError with one sentence otherwise, and for the zero address.
    """
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not an address: write 0x and 40 hex digits")
    digits = text[2:]
    lower = digits.lower()
    hashed = keccak256(lower.encode()).hex()
    proper = "0x" + "".join(
        c.upper() if int(h, 16) >= 8 else c for c, h in zip(lower, hashed, strict=False)
    )
    if digits not in (lower, digits.upper()) and text != proper:
        raise ValueError(f"{text} has a wrong checksum: one of its characters is mistyped")
    if proper == ZERO_ADDRESS:
        raise ValueError("the zero address can't be paid")
    return proper
