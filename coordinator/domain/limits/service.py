"""Service levels of agents, and reviews of budgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from coordinator.domain.limits.limits import LimitState, ScopeKind
from coordinator.domain.policy.tables import ServiceLevels
from coordinator.domain.shown import Shown
from coordinator.domain.windows import Window

FULL = "full"


@dataclass(frozen=True, slots=True)
class ServiceLevel(Shown):
    """An agent's service level, its features, and the remaining share that decides it.

    ``remaining_percent`` is the smallest remaining share of its limits, rounded down; None where
    none of the windows that count is limited. ``scope`` names the limit with that share.
    """

    name: str
    features: tuple[str, ...]
    remaining_percent: int | None
    scope: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "name": self.name,
            "features": list(self.features),
            "remaining_percent": self.remaining_percent,
            "scope": self.scope,
        }


def service_level(levels: ServiceLevels | None, limits: Iterable[LimitState]) -> ServiceLevel:
    """Find the level by the smallest remaining share over the windows that the policy names.

    A level holds from its share on (inclusive). Without a table of levels, or a limit that
    counts, it is ``full``.
    """
    if levels is None:
        return ServiceLevel(FULL, (), None, None)
    counted = {Window(name) for name in levels.of}
    shares = [
        (remaining_percent(state), str(state.limit.scope))
        for state in limits
        if state.limit.window in counted and state.limit.scope.kind is not ScopeKind.AUTO_APPROVED
    ]
    if not shares:
        return ServiceLevel(FULL, tuple(levels.full.features), None, None)
    share, scope = min(shares)
    for name, level in levels.levels():
        if share >= level.from_:
            return ServiceLevel(name, tuple(level.features), share, scope)
    raise AssertionError("the last level begins at 0")


def remaining_percent(state: LimitState) -> int:
    """Return the rest of the limit in whole percent, from 0 to 100; 0 of a limit of zero."""
    limit, left = state.limit.amount.base_units, state.remaining.base_units
    return max(0, min(100, left * 100 // limit)) if limit > 0 else 0


@dataclass(frozen=True, slots=True)
class Finding(Shown):
    """One thing that a review found: ``kind`` is "under_used", "nearly_depleted" or "pool_low"."""

    kind: str
    scope: str
    window: str
    remaining_percent: int

    @property
    def message(self) -> str:
        words = {
            "under_used": "uses little of",
            "nearly_depleted": "has nearly used up",
            "pool_low": "is below the mark of",
        }[self.kind]
        share = f"{self.remaining_percent} % remains"
        return f"{self.scope} {words} its {self.window} limit: {share}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "scope": self.scope,
            "window": str(self.window),
            "remaining_percent": self.remaining_percent,
            "message": self.message,
        }


def review(limits: Iterable[LimitState], *, pool_remaining_below: int) -> Iterator[Finding]:
    """Find limits of agents and pools that need a look.

    Under-used: 80 % and more remains. Nearly depleted: 10 % and less. A pool is low below its
    mark, which is not inclusive.
    """
    for state in limits:
        scope, window = state.limit.scope, state.limit.window
        if window is Window.PER_PURCHASE:
            continue
        share = remaining_percent(state)
        if scope.kind is ScopeKind.POOL and share < pool_remaining_below:
            yield Finding("pool_low", str(scope), window, share)
        elif scope.kind in (ScopeKind.AGENT, ScopeKind.POOL) and share <= 10:
            yield Finding("nearly_depleted", str(scope), window, share)
        elif scope.kind is ScopeKind.AGENT and share >= 80:
            yield Finding("under_used", str(scope), window, share)
