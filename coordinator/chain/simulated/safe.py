"""A Safe as an account that signs: its owners, and ERC-1271."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coordinator.chain.simulated.contract import (
    NOBODY,
    Contract,
    Frame,
    Handler,
    Reverted,
    constant,
    require,
)
from coordinator.chain.simulated.state import Key
from coordinator.domain.address import keccak256
from coordinator.domain.signatures.ecdsa import any_signer
from coordinator.domain.signatures.safe_signatures import safe_message_digest

_SIGNED: Final = bytes.fromhex("1626ba7e")
_PART_BYTES: Final = 65
_PERSONAL: Final = b"\x19Ethereum Signed Message:\n32"


class Safe(Contract):
    """Version 1.5.0 with its CompatibilityFallbackHandler, as far as signatures go.

    It sends nothing and approves no hashes; its owners are written into the state.
    """

    def __init__(self, address: str, chain_id: int) -> None:
        self._chain_id = chain_id
        handlers: dict[str, Handler] = {
            "VERSION": constant("1.5.0"),
            "getOwners": self._owners,
            "getThreshold": self._threshold,
            "isValidSignature": self._is_valid,
        }
        super().__init__(address, "Safe", handlers)

    def owners_key(self) -> Key:
        return (self.address, "owners")

    def threshold_key(self) -> Key:
        return (self.address, "threshold")

    def _owners(self, frame: Frame) -> Sequence[str]:
        owners: Sequence[str] = frame.state.get(self.owners_key(), ())
        return owners

    def _threshold(self, frame: Frame) -> int:
        return int(frame.state.get(self.threshold_key()))

    def accepts(self, frame: Frame, digest: bytes, signature: bytes) -> bool:
        """Return whether the Safe says to another contract that it has signed."""
        try:
            return self._is_valid(frame.by(self.address), digest, signature) == _SIGNED
        except Reverted:
            return False

    def _is_valid(self, frame: Frame, digest: bytes, signature: bytes) -> bytes:
        require(bool(signature), "Hash not approved")
        threshold, owners = self._threshold(frame), self._owners(frame)
        require(threshold > 0, "GS001")
        static = threshold * _PART_BYTES
        require(len(signature) >= static, "GS020")
        message = safe_message_digest(digest, chain_id=self._chain_id, safe=self.address)
        last = NOBODY
        for start in range(0, static, _PART_BYTES):
            part = signature[start : start + _PART_BYTES]
            owner = self._signer(frame, message, part, signature, static)
            require(owner > last and owner in owners, "GS026")
            last = owner
        return _SIGNED

    def _signer(
        self, frame: Frame, message: bytes, part: bytes, signature: bytes, static: int
    ) -> str:
        v, named = part[64], "0x" + part[12:32].hex()
        if v == 0:
            offset = int.from_bytes(part[32:64], "big")
            require(offset >= static, "GS021")
            self._ask_contract(frame, named, message, signature, offset)
            return named
        require(v != 1, "GS025")
        if v > 30:
            return _recovered(keccak256(_PERSONAL + message), part, v - 4)
        return _recovered(message, part, v)

    def _ask_contract(
        self, frame: Frame, owner: str, message: bytes, signature: bytes, offset: int
    ) -> None:
        first = offset + 32
        require(first <= len(signature), "GS022")
        length = int.from_bytes(signature[offset:first], "big")
        require(first + length <= len(signature), "GS023")
        contract = frame.contracts.get(owner)
        if not isinstance(contract, Safe):
            raise Reverted
        contract._is_valid(frame.by(self.address), message, signature[first : first + length])


def _recovered(message: bytes, part: bytes, v: int) -> str:
    """As the chain's ecrecover: the zero address for what is no signature, and any s."""
    signer = any_signer(message, part[:64] + bytes([v - 27])) if v in (27, 28) else None
    return NOBODY if signer is None else signer.lower()
