"""USDC amounts as exact integers with six decimals."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import Any, Final

DECIMALS: Final = 6
_UNIT: Final = 10**DECIMALS
# 10^12 USDC keeps every sum of amounts far inside SQL's signed 64-bit integers.
_MAX_BASE_UNITS: Final = 10**12 * _UNIT
_TEXT: Final = re.compile(r"[0-9]+(\.[0-9]{1,6})?", re.ASCII)


_new: Final = object.__new__
_set: Final = object.__setattr__


@total_ordering
class Usdc:
    """An exact amount of USDC, made from a decimal string such as ``Usdc("25.00")``.

    At most six decimals and 10^12 USDC; no sign, exponent, space or separator. An ``int`` or
    ``float`` is refused, because 25 could mean 25 USDC or 25 base units. Differences may be
    negative; ``from_base_units`` takes the integer that SQL and the chain use.
    """

    __slots__ = ("base_units",)
    base_units: int

    def __init__(self, amount: str | Usdc) -> None:
        object.__setattr__(self, "base_units", _parse(amount))

    @classmethod
    def from_base_units(cls, base_units: int) -> Usdc:
        """The amount of ``base_units`` millionths of a USDC (may be negative)."""
        if type(base_units) is not int:
            raise TypeError(f"base units must be an int, not {type(base_units).__name__}")
        made = _new(cls)
        _set(made, "base_units", base_units)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Usdc is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Usdc is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Usdc.from_base_units, (self.base_units,))

    def __str__(self) -> str:
        sign = "-" if self.base_units < 0 else ""
        whole, part = divmod(abs(self.base_units), _UNIT)
        decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
        return f"{sign}{whole}.{decimals}"

    def __repr__(self) -> str:
        return f"Usdc('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usdc) and self.base_units == other.base_units

    def __lt__(self, other: Usdc) -> bool:
        if not isinstance(other, Usdc):
            return NotImplemented
        return self.base_units < other.base_units

    def __hash__(self) -> int:
        return hash((Usdc, self.base_units))

    def __bool__(self) -> bool:
        return self.base_units != 0

    def __add__(self, other: Usdc) -> Usdc:
        if not isinstance(other, Usdc):
            return NotImplemented
        return Usdc.from_base_units(self.base_units + other.base_units)

    def __sub__(self, other: Usdc) -> Usdc:
        if not isinstance(other, Usdc):
            return NotImplemented
        return Usdc.from_base_units(self.base_units - other.base_units)


ZERO: Final = Usdc.from_base_units(0)


def _parse(amount: object) -> int:
    if isinstance(amount, Usdc):
        return amount.base_units
    if isinstance(amount, (int, float)):
        raise ValueError(
            f'an amount must be a decimal string such as "25.00": {amount!r} could mean'
            " USDC or base units"
        )
    if not isinstance(amount, str):
        raise ValueError(f"an amount must be a decimal string, not {type(amount).__name__}")
    if len(amount) > 40 or not _TEXT.fullmatch(amount):
        shown = amount if len(amount) <= 40 else amount[:40] + "…"
        raise ValueError(
            f"{shown!r} is not an amount: write USDC as digits with at most six decimals,"
            ' such as "25.00"'
        )
    whole, _, part = amount.partition(".")
    base_units = int(whole) * _UNIT + int(part.ljust(DECIMALS, "0") or "0")
    if base_units > _MAX_BASE_UNITS:
        raise ValueError(f"{amount} USDC is above the largest amount, 10^12 USDC")
    return base_units
