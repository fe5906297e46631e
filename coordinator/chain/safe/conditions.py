"""Conditions on a role's calls, as a tree and as the contract stores them.

Rows go to ``scopeFunction`` breadth first. The contract keeps them as the code of a contract of
its own, whose address follows from them: so a reading of one storage slot proves them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from coordinator.chain.safe.addresses import SINGLETON_FACTORY
from coordinator.chain.safe.create2 import SALT_ZERO, create2_address, word
from coordinator.domain.address import keccak256

# Copies what follows, as the code of the new contract (0xsequence's SSTORE2, with PUSH4).
_STORE: Final = bytes.fromhex("80600e6000396000f3")


class ParamType(IntEnum):
    """The layout of a parameter."""

    NONE = 0
    STATIC = 1
    CALLDATA = 5


class Operator(IntEnum):
    """The question asked of a parameter; from ``EQUAL_TO`` on it takes a value."""

    PASS = 0
    AND = 1
    OR = 2
    MATCHES = 5
    EQUAL_TO_AVATAR = 15
    EQUAL_TO = 16
    LESS_THAN = 18
    WITHIN_ALLOWANCE = 28
    CALL_WITHIN_ALLOWANCE = 30


@dataclass(frozen=True, slots=True)
class Condition:
    kind: ParamType
    operator: Operator
    value: bytes = b""
    children: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    parent: int
    kind: ParamType
    operator: Operator
    value: bytes

    def as_tuple(self) -> tuple[int, int, int, bytes]:
        return (self.parent, self.kind, self.operator, self.value)


def call_with(*parameters: Condition) -> Condition:
    """Match the parameters in their order; those that follow may be anything."""
    return Condition(ParamType.CALLDATA, Operator.MATCHES, children=parameters)


def anything() -> Condition:
    return Condition(ParamType.STATIC, Operator.PASS)


def the_safe() -> Condition:
    return Condition(ParamType.STATIC, Operator.EQUAL_TO_AVATAR)


def equal_to(value: str | int) -> Condition:
    return Condition(ParamType.STATIC, Operator.EQUAL_TO, word(value))


def less_than(value: int) -> Condition:
    return Condition(ParamType.STATIC, Operator.LESS_THAN, word(value))


def within(allowance_key: bytes) -> Condition:
    """Take the parameter's number from an allowance."""
    return Condition(ParamType.STATIC, Operator.WITHIN_ALLOWANCE, allowance_key)


def calls_within(allowance_key: bytes) -> Condition:
    """Take 1 for the call from an allowance; it stands behind the parameters."""
    return Condition(ParamType.NONE, Operator.CALL_WITHIN_ALLOWANCE, allowance_key)


def any_of(*conditions: Condition) -> Condition:
    """One of these; a single one stands for itself."""
    return _joined(Operator.OR, conditions)


def all_of(*conditions: Condition) -> Condition:
    """Each of these; a single one stands for itself."""
    return _joined(Operator.AND, conditions)


def _joined(operator: Operator, conditions: tuple[Condition, ...]) -> Condition:
    if not conditions:
        raise ValueError("a role's condition needs at least one choice")
    if len(conditions) == 1:
        return conditions[0]
    return Condition(ParamType.NONE, operator, children=conditions)


def rows(root: Condition) -> tuple[Row, ...]:
    """Lay the tree out breadth first, as Integrity asks for; the root is its own parent."""
    laid: list[Row] = []
    level = [(0, root)]
    while level:
        below = []
        for parent, condition in level:
            below += [(len(laid), child) for child in condition.children]
            laid.append(Row(parent, condition.kind, condition.operator, condition.value))
        level = below
    return tuple(laid)


def pointer(root: Condition) -> str:
    """Return the address of the contract whose code is these conditions."""
    stored = b"\0" + b"".join(_packed(rows(root)))
    creation = b"\x63" + len(stored).to_bytes(4, "big") + _STORE + stored
    return create2_address(SINGLETON_FACTORY, SALT_ZERO, creation)


def unpacked(code: bytes, count: int) -> list[Row]:
    """Read the conditions from the code that keeps them; ValueError for what is none.

    Of a value that a parameter has to equal only the hash is kept.
    """
    heads, values = code[1 : 1 + 2 * count], code[1 + 2 * count :]
    if len(heads) != 2 * count:
        raise ValueError("the code is shorter than its conditions")
    found = []
    for at in range(0, len(heads), 2):
        kind, operator = ParamType(heads[at + 1] >> 5), Operator(heads[at + 1] & 31)
        value = b""
        if operator >= Operator.EQUAL_TO:
            value, values = values[:32], values[32:]
        found.append(Row(heads[at], kind, operator, value))
    return found


def _packed(laid: tuple[Row, ...]) -> Iterator[bytes]:
    for row in laid:
        yield bytes([row.parent, row.kind << 5 | row.operator])
    for row in laid:
        if row.operator >= Operator.EQUAL_TO:
            yield keccak256(row.value) if row.operator is Operator.EQUAL_TO else row.value
