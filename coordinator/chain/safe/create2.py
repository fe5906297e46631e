"""Addresses that follow from the code that is deployed there (EIP-1014)."""

from __future__ import annotations

from typing import Final

from coordinator.domain.address import checksummed, keccak256

SALT_ZERO: Final = bytes(32)


def create2_address(factory: str, salt: bytes, creation_code: bytes) -> str:
    """Return where ``factory`` deploys this code under this salt."""
    return create2_address_of_hash(factory, salt, keccak256(creation_code))


def create2_address_of_hash(factory: str, salt: bytes, code_hash: bytes) -> str:
    """Return the same from the hash of the creation code."""
    packed = b"\xff" + address_bytes(factory) + salt + code_hash
    return checksummed("0x" + keccak256(packed)[12:].hex())


def address_bytes(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def word(value: str | int) -> bytes:
    """Return an address or a number as the 32 bytes that the ABI makes of it."""
    raw = address_bytes(value) if isinstance(value, str) else value.to_bytes(32, "big")
    return raw.rjust(32, b"\0")
