"""Transactions of a Safe: what owners sign, their signatures in order, and its creation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.chain.safe.addresses import (
    FALLBACK_HANDLER,
    MULTI_SEND,
    SAFE,
    SAFE_PROXY_FACTORY,
)
from coordinator.chain.safe.create2 import create2_address_of_hash, word
from coordinator.chain.safe.multisend import CALL, DELEGATE_CALL, InnerCall, multi_send
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, keccak256
from coordinator.domain.signatures.safe_signatures import recover_owner

EXECUTE: Final = Signature(
    "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"
)
APPROVE_HASH: Final = Signature("approveHash(bytes32)")
ENABLE_MODULE: Final = Signature("enableModule(address)")
DISABLE_MODULE: Final = Signature("disableModule(address,address)")
ADD_OWNER: Final = Signature("addOwnerWithThreshold(address,uint256)")
REMOVE_OWNER: Final = Signature("removeOwner(address,address,uint256)")
CHANGE_THRESHOLD: Final = Signature("changeThreshold(uint256)")
NONCE: Final = Signature("nonce()")
_SETUP: Final = Signature("setup(address[],uint256,address,bytes,address,address,uint256,address)")
_CREATE_PROXY: Final = Signature("createProxyWithNonce(address,bytes,uint256)")
_FIELDS: Final = (
    ("to", "address"),
    ("value", "uint256"),
    ("data", "bytes"),
    ("operation", "uint8"),
    ("safeTxGas", "uint256"),
    ("baseGas", "uint256"),
    ("gasPrice", "uint256"),
    ("gasToken", "address"),
    ("refundReceiver", "address"),
    ("nonce", "uint256"),
)
_TYPE: Final = keccak256(f"SafeTx({','.join(f'{t} {n}' for n, t in _FIELDS)})".encode())
_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(uint256 chainId,address verifyingContract)")
# Of SafeProxyFactory's proxyCreationCode and the address of SafeL2.
_PROXY_CREATION_HASH: Final = bytes.fromhex(
    "e298282cefe913ab5d282047161268a8222e4bd4ed106300c547894bbefd31ee"
)
# Of the proxy that every Safe is.
SAFE_CODE_HASH: Final = "d7d408ebcd99b2b70be43e20253d6d92a8ea8fab29bd3be7f55b10032331fb4c"
_PART_BYTES: Final = 65
_CONTRACT: Final = b"\x00"
_APPROVED: Final = b"\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeTransaction:
    """A call in the Safe's name under its next ``nonce``; whoever sends it pays the gas."""

    to: str
    data: bytes
    nonce: int
    operation: int = CALL

    def digest(self, *, chain_id: int, safe: str) -> bytes:
        """Return the hash that owners sign, and by which the Safe knows the transaction."""
        return keccak256(self.signed_bytes(chain_id=chain_id, safe=safe))

    def signed_bytes(self, *, chain_id: int, safe: str) -> bytes:
        """Return what is hashed, which an owner that is a contract is asked about."""
        separator = keccak256(_DOMAIN_TYPE + word(chain_id) + word(safe))
        fields = (self.to, 0, keccak256(self.data), self.operation, 0, 0, 0, *_NOBODY, self.nonce)
        body = b"".join(f if isinstance(f, bytes) else word(f) for f in fields)
        return b"\x19\x01" + separator + keccak256(_TYPE + body)

    def typed_data(self, *, chain_id: int, safe: str) -> dict[str, Any]:
        """Return it as EIP-712 typed data that wallets take."""
        domain = [{"name": "chainId", "type": "uint256"}]
        domain.append({"name": "verifyingContract", "type": "address"})
        values = (self.to, "0", "0x" + self.data.hex(), self.operation, "0", "0", "0", *_NOBODY)
        names = [name for name, _ in _FIELDS]
        return {
            "types": {
                "EIP712Domain": domain,
                "SafeTx": [{"name": name, "type": kind} for name, kind in _FIELDS],
            },
            "primaryType": "SafeTx",
            "domain": {"chainId": chain_id, "verifyingContract": safe},
            "message": dict(zip(names, (*values, str(self.nonce)), strict=True)),
        }

    def call(self, signatures: bytes) -> bytes:
        """Encode the call that executes it, which anybody may send."""
        fields = (self.to, 0, self.data, self.operation, 0, 0, 0, *_NOBODY)
        return EXECUTE.call(*fields, signatures)


_NOBODY: Final = (ZERO_ADDRESS, ZERO_ADDRESS)


def together(calls: Sequence[InnerCall], *, nonce: int) -> SafeTransaction:
    """Return one transaction of all these calls."""
    return SafeTransaction(
        to=MULTI_SEND.address, data=multi_send(calls), nonce=nonce, operation=DELEGATE_CALL
    )


@dataclass(frozen=True, slots=True)
class OwnerSignature:
    """An owner's 65 bytes; ``inner`` is what an owner that is a contract takes for its own."""

    owner: str
    part: bytes
    inner: bytes | None = None

    @classmethod
    def by_key(cls, digest: bytes, part: bytes) -> OwnerSignature:
        """Recover the owner from a signature of the digest, bare or as a personal message (v + 4).

        BadSignature for anything else.
        """
        return cls(recover_owner(digest, part), part)

    @classmethod
    def approved(cls, owner: str) -> OwnerSignature:
        """For an owner who called ``approveHash``, or who sends the transaction."""
        return cls(owner, word(owner) + bytes(32) + _APPROVED)

    @classmethod
    def by_contract(cls, owner: str, inner: bytes) -> OwnerSignature:
        """For an owner that is asked by ERC-1271 about ``inner``."""
        return cls(owner, b"", inner)


def joined(signatures: Sequence[OwnerSignature]) -> bytes:
    """Return them as the Safe takes them, in the order of addresses; ValueError for a double."""
    ordered = sorted(signatures, key=lambda signature: int(signature.owner, 16))
    if len({signature.owner for signature in ordered}) != len(ordered):
        raise ValueError("an owner's signature is there twice: a Safe takes each owner once")
    static, dynamic = b"", b""
    for signature in ordered:
        if signature.inner is None:
            static += signature.part
            continue
        place = len(ordered) * _PART_BYTES + len(dynamic)
        static += word(signature.owner) + word(place) + _CONTRACT
        dynamic += word(len(signature.inner)) + signature.inner
    return static + dynamic


def create_safe(owners: Sequence[str], threshold: int, *, salt_nonce: int) -> bytes:
    """Encode the call to SafeProxyFactory that creates a Safe of these owners."""
    return _CREATE_PROXY.call(SAFE.address, _setup(owners, threshold), salt_nonce)


def safe_address(owners: Sequence[str], threshold: int, *, salt_nonce: int) -> str:
    """Return where ``create_safe`` creates."""
    salt = keccak256(keccak256(_setup(owners, threshold)) + word(salt_nonce))
    return create2_address_of_hash(SAFE_PROXY_FACTORY.address, salt, _PROXY_CREATION_HASH)


def _setup(owners: Sequence[str], threshold: int) -> bytes:
    nobody = ZERO_ADDRESS
    return _SETUP.call(
        [*owners], threshold, nobody, b"", FALLBACK_HANDLER.address, nobody, 0, nobody
    )
