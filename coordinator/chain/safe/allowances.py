"""Allowances of a role: how much may be spent, and how it comes back, as Roles 2.1.0 counts it."""

from __future__ import annotations

from dataclasses import dataclass

UNLIMITED = 2**128 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """An allowance as it is stored: ``balance`` is what was left at ``timestamp``.

    ``refill`` comes back every ``period`` seconds, counted from ``timestamp``, up to
    ``max_refill``; never with a period of 0. Amounts are in base units, or calls.
    """

    refill: int
    max_refill: int
    period: int
    balance: int
    timestamp: int

    @classmethod
    def bucket(cls, size: int, *, refill: int, period: int, timestamp: int = 0) -> Allowance:
        """Return a full one; a ``timestamp`` of 0 stands for the time of its block."""
        if size <= 0 or refill <= 0:
            raise ValueError("an allowance of 0 would be an unlimited one")
        return cls(refill=refill, max_refill=size, period=period, balance=size, timestamp=timestamp)

    @classmethod
    def once(cls, amount: int) -> Allowance:
        """Return one that never comes back."""
        if amount <= 0:
            raise ValueError("an allowance of 0 would be an unlimited one")
        return cls(refill=0, max_refill=amount, period=0, balance=amount, timestamp=0)

    def left_at(self, time: int) -> int:
        """Return what may be taken in a block of this unix second."""
        if self.period == 0 or time < self.timestamp + self.period:
            return self.balance
        if self.balance >= self.max_refill:
            return self.balance
        periods = (time - self.timestamp) // self.period
        return min(self.balance + periods * self.refill, self.max_refill)

    def refilled_at(self, time: int) -> int | None:
        """Return when it next grows, seen at ``time``; None for one that is full or never does."""
        if self.period == 0 or not self.refill or self.left_at(time) >= self.max_refill:
            return None
        periods = max(time - self.timestamp, 0) // self.period
        return self.timestamp + (periods + 1) * self.period
