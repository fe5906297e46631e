"""The account behind an ECDSA signature."""

from __future__ import annotations

import re
from typing import Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.signatures.faults import BadSignature, SignatureFault

# Of each signature there is a twin with the other s, which anybody can make: it would be a second
# one of the same person. Wallets make the lower.
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
LOW_S_MAX: Final = _ORDER // 2
_SIGNATURE: Final = re.compile(r"0x[0-9a-fA-F]{130}", re.ASCII)
_PARITY_OF_V: Final = {27: 0, 28: 1}


def recover_address(digest: bytes, signature: str) -> str:
    """Return the account that signed the 32 bytes; BadSignature unless it is r, s and v as hex.

    ``v`` is 27 or 28, and ``s`` in the lower half.
    """
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise _malformed("a signature is 0x and 130 hex digits")
    raw = bytes.fromhex(signature[2:])
    return recover(digest, raw[:64], raw[64])


def recover(digest: bytes, r_and_s: bytes, v: int) -> str:
    """As ``recover_address``, for bytes."""
    parity = _PARITY_OF_V.get(v)
    if parity is None:
        raise _malformed(f"a signature ends with v = 27 or 28, not {v}")
    if LOW_S_MAX < int.from_bytes(r_and_s[32:], "big") < _ORDER:
        raise BadSignature(
            "the signature's s is in the upper half, where anybody can put it",
            code=SignatureFault.HIGH_S,
        )
    address = any_signer(digest, r_and_s + bytes([parity]))
    if address is None:
        raise _malformed("no account can have made this signature")
    return address


def any_signer(digest: bytes, signature: bytes) -> str | None:
    """Return the account of r, s and parity, whichever half s is in; None when there is none."""
    from coincurve import PublicKey

    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception for what is no signature
        return None
    return checksummed("0x" + keccak256(key.format(compressed=False)[1:])[-20:].hex())


def _malformed(reason: str) -> BadSignature:
    return BadSignature(reason, code=SignatureFault.MALFORMED)
