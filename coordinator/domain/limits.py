"""Limits over scopes and windows, and the counters that they are checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import ZERO, Usdc


class ScopeKind(StrEnum):
    """Whose limit it is."""

    ORGANISATION = "organisation"
    AGENT = "agent"
    CATEGORY = "category"


class Window(StrEnum):
    """Over what time a limit counts; ``per_purchase`` has no counter."""

    PER_PURCHASE = "per_purchase"
    DAILY = "daily"
    TOTAL = "total"


COUNTED_WINDOWS: Final = (Window.DAILY, Window.TOTAL)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """One organisation, agent or category; the organisation's id is empty."""

    kind: ScopeKind
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}" if self.id else str(self.kind)


@dataclass(frozen=True, slots=True, order=True)
class CounterKey:
    """One counter: a scope, a window, and the unix second at which the window starts.

    A window covers [start, start of the next); ``total`` starts at 0 and never ends.
    """

    scope: Scope
    window: Window
    start: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a counter holds: reserved and posted amounts."""

    held: Usdc = ZERO
    spent: Usdc = ZERO


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``amount`` within ``window`` for ``scope``; equal is allowed."""

    scope: Scope
    window: Window
    amount: Usdc


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as a decision saw it, before the decision's own hold.

    ``remaining`` = limit - held - spent and may be negative after a limit was lowered;
    ``resets_at`` is the unix second at which the window ends, None where it never does.
    """

    limit: Limit
    usage: Usage
    resets_at: int | None
    broken: bool

    @property
    def remaining(self) -> Usdc:
        return self.limit.amount - self.usage.held - self.usage.spent

    def reason(self, asked: Usdc) -> Reason:
        """The stable code of this limit and one sentence with what was asked and what is left."""
        scope, window = self.limit.scope, self.limit.window
        code = _AGENT_CODES[window] if scope.kind is ScopeKind.AGENT else _SCOPE_CODES[scope.kind]
        words = {Window.PER_PURCHASE: "a purchase", Window.DAILY: "a day", Window.TOTAL: "in total"}
        message = (
            f"{scope} may spend {self.limit.amount} USDC {words[window]};"
            f" {self.remaining} remains and {asked} was asked"
        )
        return Reason(code, message)


_AGENT_CODES: Final = {
    Window.PER_PURCHASE: ReasonCode.PER_PURCHASE_LIMIT,
    Window.DAILY: ReasonCode.DAILY_LIMIT,
    Window.TOTAL: ReasonCode.TOTAL_LIMIT,
}
_SCOPE_CODES: Final = {
    ScopeKind.ORGANISATION: ReasonCode.ORGANISATION_LIMIT,
    ScopeKind.CATEGORY: ReasonCode.CATEGORY_LIMIT,
}


def window_bounds(window: Window, at: int, zone: ZoneInfo) -> tuple[int, int | None]:
    """[start, end) in unix seconds of the ``window`` that contains the instant ``at``.

    A day runs from the first instant of the local date to that of the next, so it lasts 23 or
    25 hours when clocks change.
    """
    if window is Window.DAILY:
        local = datetime.fromtimestamp(at, zone).date()
        following = _first_instant(local + timedelta(days=1), zone)
        if at >= following:
            # The clock went back over midnight: the next date has begun and shows the last again.
            local += timedelta(days=1)
            following = _first_instant(local + timedelta(days=1), zone)
        return _first_instant(local, zone), following
    return 0, None


def _first_instant(day: date, zone: ZoneInfo) -> int:
    # fold=0 takes the earlier of two midnights; a midnight that a clock change skips resolves,
    # through its UTC offset before the change, to the instant at which the date begins.
    return int(datetime.combine(day, time.min, zone).timestamp())


def counters_touched(scopes: Iterable[Scope], at: int, zone: ZoneInfo) -> tuple[CounterKey, ...]:
    """Every counter that an amount at the instant ``at`` counts in, in key order.

    All counted windows of a scope are kept, limited or not: a limit that is added later finds
    its counter there, and reports need no scan.
    """
    keys = {
        CounterKey(scope, window, window_bounds(window, at, zone)[0])
        for scope in scopes
        for window in COUNTED_WINDOWS
    }
    return tuple(sorted(keys))


def check_limits(
    limits: Iterable[Limit],
    usage: Mapping[CounterKey, Usage],
    amount: Usdc,
    at: int,
    zone: ZoneInfo,
) -> tuple[LimitState, ...]:
    """Each limit with its usage at ``at`` and whether ``amount`` more would exceed it."""
    states = []
    for limit in limits:
        start, end = window_bounds(limit.window, at, zone)
        used = (
            Usage()
            if limit.window is Window.PER_PURCHASE
            else usage.get(CounterKey(limit.scope, limit.window, start), Usage())
        )
        broken = used.held + used.spent + amount > limit.amount
        states.append(LimitState(limit, used, end, broken))
    return tuple(states)
