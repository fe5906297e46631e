"""Owners' calls as one transaction, in a file that goes from one owner to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.safe_transactions import (
    OwnerSignature,
    SafeTransaction,
    together,
)
from coordinator.domain.address import checksummed
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.signatures.faults import BadSignature

_HEX: Final = re.compile(r"0x([0-9a-fA-F]{2})*", re.ASCII)
_PART_BYTES: Final = 65
_CALLS_MAX: Final = 200
_NONCE_MAX: Final = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Calls of a Safe under its ``nonce``, with the signatures that were collected so far.

    Signatures are those of owners' keys, by owner; each is of this very transaction.
    """

    chain_id: int
    safe: str
    nonce: int
    calls: tuple[InnerCall, ...]
    signatures: Mapping[str, OwnerSignature] = field(default_factory=dict)

    @property
    def transaction(self) -> SafeTransaction:
        return together(self.calls, nonce=self.nonce)

    @property
    def digest(self) -> bytes:
        """The 32 bytes that owners sign."""
        return self.transaction.digest(chain_id=self.chain_id, safe=self.safe)

    def signed_with(self, *texts: str) -> Proposal:
        """Return it with further owners' signatures, 0x and hex; InvalidRequest for others."""
        found = dict(self.signatures)
        for text in texts:
            try:
                part = bytes.fromhex(text.removeprefix("0x"))
                if len(part) != _PART_BYTES:
                    raise ValueError(f"an owner's has {_PART_BYTES} bytes, and this {len(part)}")
                one = OwnerSignature.by_key(self.digest, part)
            except (BadSignature, ValueError) as fault:
                raise InvalidRequest(
                    f"a signature is not one of this transaction: {fault}", code="signature_invalid"
                ) from None
            found[one.owner] = one
        return replace(self, signatures=found)

    def document(self, says: Sequence[str] = ()) -> dict[str, Any]:
        """Return it as a file; ``says`` is for people, and is never read back."""
        words = [*says] or [call.title for call in self.calls]
        return {
            "chain_id": self.chain_id,
            "safe": self.safe,
            "nonce": self.nonce,
            "calls": [
                {"to": call.to, "data": "0x" + call.data.hex(), "says": text}
                for call, text in zip(self.calls, words, strict=True)
            ],
            "hash": "0x" + self.digest.hex(),
            "typed_data": self.transaction.typed_data(chain_id=self.chain_id, safe=self.safe),
            "signatures": [
                {"owner": owner, "signature": "0x" + one.part.hex()}
                for owner, one in self.signatures.items()
            ],
        }

    def builder_document(self, *, title: str, now: int) -> dict[str, Any]:
        """Return the calls as the transaction builder of the Safe app imports them.

        The app wraps them by a MultiSend of its own choice and takes its own nonce: its hash is
        another, and signatures are not of both.
        """
        return {
            "version": "1.0",
            "chainId": str(self.chain_id),
            "createdAt": now * 1000,
            "meta": {"name": title, "createdFromSafeAddress": self.safe},
            "transactions": [
                {
                    "to": call.to,
                    "value": "0",
                    "data": "0x" + call.data.hex(),
                    "contractMethod": None,
                    "contractInputsValues": None,
                }
                for call in self.calls
            ],
        }

    @classmethod
    def of_document(cls, document: Any) -> Proposal:
        """Read a file; InvalidRequest for one that is none, or whose hash is another's."""
        try:
            made = cls(
                chain_id=_number(document["chain_id"]),
                safe=checksummed(document["safe"]),
                nonce=_number(document["nonce"]),
                calls=tuple(_call(one) for one in document["calls"]),
            )
            told = document["hash"]
            signatures = [str(one["signature"]) for one in document["signatures"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidRequest(
                "the file is no transaction of a treasury's owners: `coordinator treasury propose`"
                " writes one"
            ) from None
        if not 0 < len(made.calls) <= _CALLS_MAX:
            raise InvalidRequest(f"the file must have 1 to {_CALLS_MAX} calls")
        if told != "0x" + made.digest.hex():
            raise InvalidRequest(
                f"the file says that its hash is {str(told)[:66]}, and its calls have"
                f" 0x{made.digest.hex()}: it was changed"
            )
        return made.signed_with(*signatures)


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _NONCE_MAX:
        raise ValueError("not a number")
    return value


def _call(one: Any) -> InnerCall:
    data = one["data"]
    if not _HEX.fullmatch(data):
        raise ValueError("not hex digits")
    return InnerCall(checksummed(one["to"]), bytes.fromhex(data[2:]))
