"""EIP-3009 as Circle's token checks it: what is signed, and whose signature counts."""

from __future__ import annotations

from typing import Final

from coordinator.chain.simulated.codec import WORD, word_of_address
from coordinator.chain.simulated.contract import Frame, Reverted, require
from coordinator.chain.simulated.safe import Safe
from coordinator.domain.address import keccak256
from coordinator.domain.signatures.ecdsa import LOW_S_MAX, any_signer
from coordinator.domain.typed_data import Domain, domain_separator

_TRANSFER_TYPE: Final = keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
    b"uint256 validBefore,bytes32 nonce)"
)
_SIGNATURE_BYTES: Final = 65


def authorisation_digest(
    domain: Domain, owner: str, to: str, value: int, after: int, before: int, nonce: bytes
) -> bytes:
    """The 32 bytes that the owner signs."""
    message = keccak256(
        _TRANSFER_TYPE
        + word_of_address(owner)
        + word_of_address(to)
        + b"".join(map(_number, (value, after, before)))
        + nonce
    )
    return keccak256(b"\x19\x01" + domain_separator(domain) + message)


def packed(*signature: int | bytes) -> bytes:
    """The bytes of a signature that is given as one, or as v, r and s."""
    if len(signature) == 1:
        return bytes(signature[0])
    v, r, s = signature
    return bytes(r) + bytes(s) + bytes([int(v)])


def is_signed(frame: Frame, owner: str, digest: bytes, signature: bytes) -> bool:
    """Whether it is the account's signature, or one that the contract there accepts.

    Reverted for what can be no account's, with the reason of Circle's library.
    """
    contract = frame.contracts.get(owner)
    if contract is not None:
        return isinstance(contract, Safe) and contract.accepts(frame, digest, signature)
    require(len(signature) == _SIGNATURE_BYTES, "ECRecover: invalid signature length")
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    require(s <= LOW_S_MAX, "ECRecover: invalid signature 's' value")
    require(v in (27, 28), "ECRecover: invalid signature 'v' value")
    signer = any_signer(digest, signature[:64] + bytes([v - 27]))
    if signer is None:
        raise Reverted("ECRecover: invalid signature")
    return signer.lower() == owner


def _number(value: int) -> bytes:
    return value.to_bytes(WORD, "big")
