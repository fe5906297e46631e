"""Bytes of EIP-1559 transactions: what is signed, and what is sent.

A general library takes a millisecond for each, and a thousand purchases have two thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call

_TYPE: Final = b"\x02"
# RLP: a byte below 0x80 stands for itself; up to 55 bytes have a prefix of one byte.
_TEXT: Final = 0x80
_LIST: Final = 0xC0
_SHORT_MAX: Final = 55
_REQUEST_HEAD: Final = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas")
_REQUEST: Final = frozenset({"type", *_REQUEST_HEAD, "to", "value", "data"})
# An empty access list.
_NO_ACCESS: Final = b"\xc0"


class UnsignedTransaction:
    """A transaction of type 2 without an access list."""

    def __init__(self, fields: list[bytes]) -> None:
        self._fields = fields

    @classmethod
    def of_call(cls, call: Call, *, nonce: int, fees: Fees, chain_id: int) -> UnsignedTransaction:
        """Return one call of no value."""
        return cls(
            [
                _integer(chain_id),
                _integer(nonce),
                _integer(fees.max_priority_fee_per_gas),
                _integer(fees.max_fee_per_gas),
                _integer(call.gas_limit),
                _recipient(call.to),
                _integer(0),
                _bytes(bytes.fromhex(call.data.removeprefix("0x"))),
                _NO_ACCESS,
            ]
        )

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> UnsignedTransaction:
        """Return a transaction as nodes name its fields; without ``to`` it makes a contract.

        ValueError for another kind, and for a field that is not known.
        """
        if request["type"] != 2 or not set(request) <= _REQUEST:
            raise ValueError("only transactions of type 2 without an access list are signed")
        to = request.get("to")
        return cls(
            [
                *(_integer(request[name]) for name in _REQUEST_HEAD),
                _recipient(to) if to else _bytes(b""),
                _integer(request["value"]),
                _bytes(bytes.fromhex(request["data"].removeprefix("0x"))),
                _NO_ACCESS,
            ]
        )

    @property
    def digest(self) -> bytes:
        """The 32 bytes to sign."""
        return keccak256(_TYPE + _list(self._fields))

    def signed(self, signature: bytes) -> bytes:
        """Return the bytes to send; ``signature`` is r, s and the parity of y, of 65 bytes."""
        r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
        proof = [_integer(signature[64]), _integer(r), _integer(s)]
        return _TYPE + _list([*self._fields, *proof])


@lru_cache(maxsize=64)
def _recipient(address: str) -> bytes:
    """ValueError for what is no address, or one that is mistyped."""
    return _bytes(bytes.fromhex(checksummed(address)[2:]))


def _integer(value: int) -> bytes:
    # OverflowError for a negative one; zero has no bytes.
    return _bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _bytes(value: bytes) -> bytes:
    if len(value) == 1 and value[0] < _TEXT:
        return value
    return _prefix(len(value), _TEXT) + value


def _list(fields: Sequence[bytes]) -> bytes:
    body = b"".join(fields)
    return _prefix(len(body), _LIST) + body


def _prefix(length: int, first: int) -> bytes:
    if length <= _SHORT_MAX:
        return bytes([first + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([first + _SHORT_MAX + len(size)]) + size
