"""Signatures of a Safe's owners, proved from what was recorded of the Safe, without a chain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.signatures.ecdsa import recover
from coordinator.domain.signatures.faults import BadSignature, SignatureFault

_PART_BYTES: Final = 65
_CONTRACT_SIGNATURE: Final = 0
_APPROVED_HASH: Final = 1
# For a message of eth_sign: 27 and 28, plus 4.
_OF_PERSONAL_MESSAGE: Final = (31, 32)
_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(uint256 chainId,address verifyingContract)")
_MESSAGE_TYPE: Final = keccak256(b"SafeMessage(bytes message)")
_PERSONAL: Final = b"\x19Ethereum Signed Message:\n32"
_HASH: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(\+L2)?", re.ASCII)
# From this one on the chain is in what owners sign.
_OLDEST: Final = (1, 3, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeState:
    """A Safe's owners and threshold after one block; ValueError for what no Safe can have.

    A record is as good as its writer: that the Safe had these owners only the chain tells.
    """

    address: str
    owners: tuple[str, ...]
    threshold: int
    block_number: int
    block_hash: str
    version: str

    def __post_init__(self) -> None:
        for address in (self.address, *self.owners):
            if checksummed(address) != address:
                raise ValueError(f"a Safe's record has {address} without its checksum")
        if len(set(self.owners)) != len(self.owners) or self.address in self.owners:
            raise ValueError(f"the Safe {self.address} has an owner twice, or owns itself")
        if not 1 <= self.threshold <= len(self.owners):
            raise ValueError(
                f"the Safe {self.address} has {len(self.owners)} owners and asks for"
                f" {self.threshold} of them"
            )
        if self.block_number < 0 or not _HASH.fullmatch(self.block_hash):
            raise ValueError(f"the record of the Safe {self.address} names no block")
        if not signs_for_one_chain(self.version):
            raise ValueError(
                f"the Safe {self.address} has the version {self.version[:20]!r}: use one of 1.3.0"
                " or later, whose owners sign for one chain"
            )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "owners": [*self.owners]}

    @classmethod
    def from_dict(cls, record: Any) -> SafeState:
        """Read a record; ValueError with one sentence for anything malformed."""
        names = {field.name for field in fields(cls)}
        if not isinstance(record, Mapping) or set(record) != names:
            raise ValueError(f"the record of a Safe has other fields than {', '.join(names)}")
        owners, numbers = record["owners"], (record["threshold"], record["block_number"])
        texts = [record[name] for name in ("address", "block_hash", "version")]
        if not isinstance(owners, list) or not all(isinstance(t, str) for t in (*texts, *owners)):
            raise ValueError("the record of a Safe has something else where a text was due")
        if not all(type(number) is int for number in numbers):
            raise ValueError("the record of a Safe has something else where a number was due")
        return cls(**{**record, "owners": tuple(owners)})


def signs_for_one_chain(version: str) -> bool:
    """Return whether the chain is in what owners of a Safe of this version sign."""
    found = _VERSION.fullmatch(version)
    return found is not None and tuple(map(int, found.groups()[:3])) >= _OLDEST


def safe_message_digest(digest: bytes, *, chain_id: int, safe: str) -> bytes:
    """Return what the Safe's owners sign so that the Safe has signed the 32 bytes ``digest``."""
    contract = bytes.fromhex(safe[2:]).rjust(32, b"\0")
    separator = keccak256(_DOMAIN_TYPE + chain_id.to_bytes(32, "big") + contract)
    # The Safe takes a digest for a message of 32 bytes, whose ABI encoding is itself.
    return keccak256(b"\x19\x01" + separator + keccak256(_MESSAGE_TYPE + keccak256(digest)))


def safe_message(digest: bytes, *, chain_id: int, safe: str) -> dict[str, Any]:
    """Return what the Safe's owners sign, as EIP-712 typed data that wallets take."""
    domain = [{"name": "chainId", "type": "uint256"}]
    domain.append({"name": "verifyingContract", "type": "address"})
    message = [{"name": "message", "type": "bytes"}]
    return {
        "types": {"EIP712Domain": domain, "SafeMessage": message},
        "primaryType": "SafeMessage",
        "domain": {"chainId": chain_id, "verifyingContract": safe},
        "message": {"message": "0x" + digest.hex()},
    }


def join_owners(digest: bytes, parts: Sequence[str], *, chain_id: int, safe: str) -> str:
    """Return owners' signatures of the 32 bytes as one, in the order that the Safe asks for.

    BadSignature for a part that is no signature of one owner.
    """
    message, signed = safe_message_digest(digest, chain_id=chain_id, safe=safe), []
    for part in parts:
        raw = hex_bytes(part)
        if len(raw) != _PART_BYTES:
            raise BadSignature(
                f"an owner's signature is 0x and {2 * _PART_BYTES} hex digits",
                code=SignatureFault.MALFORMED,
            )
        signed.append((int(recover_owner(message, raw), 16), raw))
    return "0x" + b"".join(raw for _, raw in sorted(signed)).hex()


def hex_bytes(text: str) -> bytes:
    """Return the bytes of 0x and hex digits; BadSignature for anything else."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise BadSignature(
            "the signature is not hex digits", code=SignatureFault.MALFORMED
        ) from None


def signers_of(
    digest: bytes, signature: bytes, *, chain_id: int, state: SafeState
) -> tuple[str, ...]:
    """Return the owners who signed, at least as many as the threshold asks for.

    BadSignature for less, for whoever is no owner, and for what only the chain could prove. This
    is stricter than the Safe, which ignores what follows the parts that it needs, and takes any s.
    """
    message = safe_message_digest(digest, chain_id=chain_id, safe=state.address)
    if not signature:
        raise BadSignature(
            "the signature is empty: what a Safe signed on chain can't be proved from an export",
            code=SignatureFault.MALFORMED,
        )
    signers: list[str] = []
    for part in _parts(signature):
        signer = recover_owner(message, part)
        _check_owner(signer, signers, state)
        signers.append(signer)
    if len(signers) < state.threshold:
        raise BadSignature(
            f"{len(signers)} of {state.threshold} owners that the Safe {state.address} asks for"
            " have signed",
            code=SignatureFault.TOO_FEW_OWNERS,
        )
    return tuple(signers)


def _parts(signature: bytes) -> Iterator[bytes]:
    """Each owner's part; BadSignature for bytes that are left, once all parts were taken."""
    whole = len(signature) // _PART_BYTES * _PART_BYTES
    for start in range(0, whole, _PART_BYTES):
        yield signature[start : start + _PART_BYTES]
    if whole < len(signature):
        raise BadSignature(
            f"a Safe's signature is {_PART_BYTES} bytes for each owner, not {len(signature)}",
            code=SignatureFault.MALFORMED,
        )


def recover_owner(message: bytes, part: bytes) -> str:
    """Return whose key signed the 32 bytes, bare or as eth_sign does; BadSignature otherwise."""
    kind = part[-1]
    if kind == _CONTRACT_SIGNATURE:
        raise BadSignature(
            "an owner that is a contract can't be proved from an export: owners sign with keys",
            code=SignatureFault.CONTRACT_SIGNATURE,
        )
    if kind == _APPROVED_HASH:
        raise BadSignature(
            "a hash that an owner approved on chain can't be proved from an export: owners sign",
            code=SignatureFault.APPROVED_HASH,
        )
    if kind in _OF_PERSONAL_MESSAGE:
        return recover(keccak256(_PERSONAL + message), part[:-1], kind - 4)
    return recover(message, part[:-1], kind)


def _check_owner(signer: str, before: list[str], state: SafeState) -> None:
    if signer not in state.owners:
        raise BadSignature(
            f"{signer} signed, or another message was signed: it is no owner of the Safe"
            f" {state.address} at block {state.block_number}",
            code=SignatureFault.NOT_AN_OWNER,
        )
    if before and int(signer, 16) <= int(before[-1], 16):
        raise BadSignature(
            f"the part of {signer} stands behind that of {before[-1]}: a Safe takes each owner"
            " once, in the order of their addresses",
            code=SignatureFault.NOT_IN_ORDER,
        )
