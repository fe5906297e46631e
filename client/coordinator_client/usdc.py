"""USDC amounts as exact integers with six decimals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import total_ordering
from typing import TYPE_CHECKING, Any, Final, Union

from coordinator_client.errors import InvalidRequest

if TYPE_CHECKING:
    from decimal import Decimal

DECIMALS: Final = 6
_UNIT: Final = 10**DECIMALS
_MAX_BASE_UNITS: Final = 10**12 * _UNIT
_LENGTH_MAX: Final = 40
_TEXT: Final = re.compile(r"[0-9]+(\.[0-9]{1,6})?", re.ASCII)


@total_ordering
class Usdc:
    """An exact amount of USDC, made from a decimal string such as ``Usdc("25.00")``.

    At most six decimals and 10^12 USDC; no sign, exponent, space or separator. A ``Decimal`` is
    taken when it is a whole number of base units. An ``int`` or ``float`` is refused, because 25
    could mean 25 USDC or 25 base units. Differences may be negative; ``from_base_units`` takes
    the integer that the chain uses. ``sum`` adds amounts, ``format`` takes what a ``Decimal``
    takes (``f"{amount:,.2f}"``).
    """

    __slots__ = ("base_units",)
    base_units: int

    def __init__(self, amount: str | Usdc | Decimal) -> None:
        object.__setattr__(self, "base_units", _parse(amount))

    @classmethod
    def from_base_units(cls, base_units: int) -> Usdc:
        """Return the amount of ``base_units`` millionths of a USDC (may be negative)."""
        if type(base_units) is not int:
            raise TypeError(f"base units must be an int, not {type(base_units).__name__}")
        made = object.__new__(cls)
        object.__setattr__(made, "base_units", base_units)
        return made

    @classmethod
    def sum(cls, amounts: Iterable[Usdc]) -> Usdc:
        """Return the sum of the amounts; zero USDC of none."""
        return sum(amounts, start=ZERO)

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

    def __format__(self, spec: str) -> str:
        text = str(self)
        if not spec or spec[-1] == "s":
            return format(text, spec)
        from decimal import Decimal

        return format(Decimal(text), spec)

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

    def __radd__(self, other: int) -> Usdc:
        # The built-in ``sum`` begins with the int 0; no other number is added to an amount.
        return self if type(other) is int and other == 0 else NotImplemented

    def __sub__(self, other: Usdc) -> Usdc:
        if not isinstance(other, Usdc):
            return NotImplemented
        return Usdc.from_base_units(self.base_units - other.base_units)


Amount = Union[str, Usdc, "Decimal"]
"""An amount as the client takes it."""

ZERO: Final = Usdc.from_base_units(0)


def any_amount(amount: object) -> Usdc:
    """Return an amount from a decimal string, ``Decimal`` or ``Usdc``; InvalidRequest otherwise."""
    try:
        return Usdc(amount)  # type: ignore[arg-type]
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_amount") from None


def positive_amount(amount: object) -> Usdc:
    """Return an amount above zero; InvalidRequest otherwise."""
    parsed = any_amount(amount)
    if parsed <= ZERO:
        raise InvalidRequest("the amount must be above zero", code="invalid_amount")
    return parsed


def told(amount: str) -> Usdc:
    """Return an amount of the service's answers, which may be negative."""
    sign = -1 if amount.startswith("-") else 1
    return Usdc.from_base_units(sign * Usdc(amount.removeprefix("-")).base_units)


def _parse(amount: object) -> int:
    if isinstance(amount, Usdc):
        return amount.base_units
    if isinstance(amount, (int, float)):
        raise ValueError(
            f'an amount must be a decimal string such as "25.00": {amount!r} could mean'
            " USDC or base units"
        )
    if not isinstance(amount, str):
        from decimal import Decimal

        if isinstance(amount, Decimal):
            return _parse_decimal(amount)
        raise ValueError(f"an amount must be a decimal string, not {type(amount).__name__}")
    if len(amount) > _LENGTH_MAX or not _TEXT.fullmatch(amount):
        shown = amount if len(amount) <= _LENGTH_MAX else amount[:_LENGTH_MAX] + "…"
        raise ValueError(
            f"{shown!r} is not an amount: write USDC as digits with at most six decimals,"
            ' such as "25.00"'
        )
    whole, _, part = amount.partition(".")
    base_units = int(whole) * _UNIT + int(part.ljust(DECIMALS, "0") or "0")
    if base_units > _MAX_BASE_UNITS:
        raise ValueError(f"{amount} USDC is above the largest amount, 10^12 USDC")
    return base_units


def _parse_decimal(amount: Decimal) -> int:
    # By its digits: arithmetic with a Decimal rounds to the precision that the caller has set.
    sign, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int) or sign:
        raise ValueError(f"{amount} is not an amount: it must be a number that is not negative")
    if any(digits) and amount.adjusted() > len(str(_MAX_BASE_UNITS)) - DECIMALS:
        raise ValueError(f"{amount:.0e} USDC is above the largest amount, 10^12 USDC")
    text = "".join(map(str, digits)).rstrip("0")
    shift = exponent + len(digits) - len(text) + DECIMALS
    if text and shift < 0:
        raise ValueError(f"{str(amount)[:60]} is not an amount: USDC has six decimals")
    base_units = int(text) * 10**shift if text else 0
    if base_units > _MAX_BASE_UNITS:
        raise ValueError(f"{amount} USDC is above the largest amount, 10^12 USDC")
    return base_units
