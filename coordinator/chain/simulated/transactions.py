"""Transactions: EIP-1559 bytes to fields and back, and who signed them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from coordinator.domain.address import keccak256

_TYPE: Final = b"\x02"
_FIELDS_SIGNED: Final = 9
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_CALL_GAS: Final = 21_000


class Undecodable(ValueError):
    """Bytes that are no signed EIP-1559 transaction."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """``sender`` and ``to`` in lower case; ``raw`` None when the node itself sent it."""

    hash: str
    sender: str
    nonce: int
    to: str | None
    value: int
    data: bytes
    gas: int
    max_fee: int
    tip: int
    chain_id: int
    raw: str | None = None

    @property
    def cost(self) -> int:
        """The most that it takes from its sender, in wei."""
        return self.gas * self.max_fee + self.value

    @property
    def intrinsic_gas(self) -> int:
        """Return the gas charged before anything runs; EIP-2028."""
        zeros = self.data.count(0)
        return _CALL_GAS + 4 * zeros + 16 * (len(self.data) - zeros)

    def paid_tip(self, base_fee: int) -> int:
        """The tip per gas in a block of ``base_fee``; negative when it can't be in it."""
        return min(self.tip, self.max_fee - base_fee)


@lru_cache(maxsize=65_536)
def decode(raw: str) -> Transaction:
    """The transaction in ``raw``, with its sender recovered from the signature."""
    try:
        data = bytes.fromhex(raw.removeprefix("0x"))
        if data[:1] != _TYPE:
            raise Undecodable("transaction type not supported")
        fields, end = _items(data, 1)
        if end != len(data) or len(fields) != _FIELDS_SIGNED + 3:
            raise Undecodable("rlp: malformed transaction")
        chain_id, nonce, tip, max_fee, gas = (int.from_bytes(f, "big") for f in fields[:5])
        parity, r, s = (int.from_bytes(f, "big") for f in fields[_FIELDS_SIGNED:])
        payload = b"".join(_written(f) for f in fields[: _FIELDS_SIGNED - 1]) + b"\xc0"
        sender = _signer(keccak256(_TYPE + _listed(payload)), parity, r, s)
    except Undecodable:
        raise
    except (ValueError, IndexError, OverflowError):
        raise Undecodable("rlp: malformed transaction") from None
    return Transaction(
        hash="0x" + keccak256(data).hex(),
        sender=sender,
        nonce=nonce,
        to="0x" + fields[5].hex() if fields[5] else None,
        value=int.from_bytes(fields[6], "big"),
        data=fields[7],
        gas=gas,
        max_fee=max_fee,
        tip=tip,
        chain_id=chain_id,
        raw=raw,
    )


def unsigned(
    fields: dict[str, Any], *, sender: str, nonce: int, fees: tuple[int, int], chain_id: int
) -> Transaction:
    """The transaction of an account that the node sends for; fees are (max, tip) by default."""

    def number(name: str, otherwise: int) -> int:
        value = fields.get(name)
        return otherwise if value is None else value if type(value) is int else int(value, 16)

    to = fields.get("to")
    data = bytes.fromhex((fields.get("data") or fields.get("input") or "0x")[2:])
    made = Transaction(
        hash="",
        sender=sender,
        nonce=number("nonce", nonce),
        to=to.lower() if to else None,
        value=number("value", 0),
        data=data,
        gas=number("gas", 1_000_000),
        max_fee=number("maxFeePerGas", fees[0]),
        tip=number("maxPriorityFeePerGas", fees[1]),
        chain_id=chain_id,
    )
    parts = (sender, made.nonce, made.to, made.value, data, made.gas, made.max_fee, made.tip)
    tx_hash = "0x" + keccak256(repr((*parts, chain_id)).encode()).hex()
    return Transaction(tx_hash, *parts, chain_id)


def _signer(digest: bytes, parity: int, r: int, s: int) -> str:
    from coincurve import PublicKey

    if parity > 1 or s > _HALF_ORDER:
        raise Undecodable("invalid transaction v, r, s values")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
    try:
        point = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception for a point that is not on the curve
        raise Undecodable("invalid sender") from None
    return "0x" + keccak256(point.format(compressed=False)[1:])[-20:].hex()


# Recursive length prefix, as far as transactions need it: inner lists stay bytes.


def _items(data: bytes, start: int) -> tuple[list[bytes], int]:
    at, size = _span(data, start, 0xC0)
    end = at + size
    found = []
    while at < end:
        first = data[at]
        if first < 0x80:
            found.append(data[at : at + 1])
            at += 1
        else:
            inner, length = _span(data, at, 0xC0 if first >= 0xC0 else 0x80)
            found.append(data[inner : inner + length])
            at = inner + length
    if at != end or end > len(data):
        raise Undecodable("rlp: malformed transaction")
    return found, end


def _span(data: bytes, at: int, base: int) -> tuple[int, int]:
    """Return the start and the length of the RLP payload at ``at``."""
    first = data[at] - base
    if not 0 <= first < 0x40:
        raise Undecodable("rlp: malformed transaction")
    if first <= 55:
        return at + 1, first
    width = first - 55
    return at + 1 + width, int.from_bytes(data[at + 1 : at + 1 + width], "big")


def _written(item: bytes) -> bytes:
    if len(item) == 1 and item[0] < 0x80:
        return item
    return _prefix(len(item), 0x80) + item


def _listed(payload: bytes) -> bytes:
    return _prefix(len(payload), 0xC0) + payload


def _prefix(size: int, base: int) -> bytes:
    if size <= 55:
        return bytes([base + size])
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(length)]) + length
