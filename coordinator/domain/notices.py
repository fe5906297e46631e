"""What people are told: each notice once, by its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.limits import LimitState
from coordinator.domain.usdc import Usdc


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that became true at a unix second; of the same key only the first is told."""

    key: str
    at: int
    kind: str
    severity: Severity
    subject: str
    message: str


def crossings(
    limits: Iterable[LimitState], amount: Usdc, thresholds: Sequence[int], now: int
) -> Iterator[Notice]:
    """A notice for each threshold (percent) of a limit that ``amount`` more reaches.

    The key names the limit, the threshold and the window, so that each is told once a window; a
    rolling window once a bucket.
    """
    for state in limits:
        limit = state.limit.amount.base_units
        if state.resets_at is None and state.limit.window.value == "per_purchase":
            continue
        before = (state.usage.held.base_units + state.usage.spent.base_units) * 100
        after = before + amount.base_units * 100
        for threshold in thresholds:
            mark = limit * threshold
            if before < mark <= after:
                yield _crossed(state, threshold, amount, now)


def _crossed(state: LimitState, threshold: int, amount: Usdc, now: int) -> Notice:
    scope, window = state.limit.scope, state.limit.window
    used = state.usage.held + state.usage.spent + amount
    return Notice(
        key=f"limit:{scope}:{window}:{state.resets_at}:{threshold}",
        at=now,
        kind="limit_threshold",
        severity=Severity.CRITICAL if threshold >= 100 else Severity.WARNING,
        subject=str(scope),
        message=(
            f"{scope} has used {threshold} % of its {window} limit: {used} of"
            f" {state.limit.amount} USDC"
        ),
    )
