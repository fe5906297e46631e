"""Addresses and recoverable signatures on the curve secp256k1, in Ethereum's form."""

from __future__ import annotations

from typing import Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.signatures.ecdsa import any_signer

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def address_of_key(key: bytes) -> str:
    """The address of a 32-byte private key; ValueError when it is none."""
    if len(key) != 32:
        raise ValueError("a private key has 32 bytes")
    from coincurve import PublicKey

    return address_of_point(PublicKey.from_valid_secret(key).format(compressed=False))


def address_of_point(point: bytes) -> str:
    """The address of an uncompressed public key: 04, x and y; ValueError for another form."""
    if len(point) != 65 or point[0] != 4:
        raise ValueError("an uncompressed public key has 65 bytes")
    return checksummed("0x" + keccak256(point[1:])[-20:].hex())


def make_recoverable(signature: bytes, digest: bytes, address: str) -> bytes:
    """Return r, the lower s and the recovery id with which ``address`` is recovered, in 65 bytes.

    ``signature`` is r and s in 64 bytes. ValueError when it is not the address's.
    """
    if len(signature) != 64:
        raise ValueError("a signature has 64 bytes")
    r, s = signature[:32], int.from_bytes(signature[32:], "big")
    # Both s and ORDER - s are valid; the chain takes the lower one alone (EIP-2).
    low = r + min(s, ORDER - s).to_bytes(32, "big") if 0 < s < ORDER else signature
    # A third and fourth id exist for an r above the order, which nobody has ever seen.
    for recovery_id in (b"\x00", b"\x01"):
        if any_signer(digest, low + recovery_id) == address:
            return low + recovery_id
    raise ValueError(f"the signature is not by {address}")
