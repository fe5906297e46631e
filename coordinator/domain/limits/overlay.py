"""Overlays of the policy: grants, shares and disabled agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.domain.limits.limits import Scope
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window


@dataclass(frozen=True, slots=True)
class Overlay(Shown):
    """One overlay of the policy, with author, reason and end (unix seconds)."""

    id: str
    kind: str
    scope: Scope
    window: Window | None
    amount: Usdc | None
    author: str
    reason: str
    starts_at: int
    ends_at: int | None = None
    increase_id: str | None = None

    def as_dict(self, *, at: int | None = None) -> dict[str, Any]:
        """Return it as JSON; with ``at``, ``in_force`` says whether it holds then."""
        shown: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "scope": str(self.scope),
            "window": self.window,
            "amount": str(self.amount) if self.amount is not None else None,
            "author": self.author,
            "reason": self.reason,
            "starts_at": rfc3339(self.starts_at),
            "ends_at": rfc3339(self.ends_at),
        }
        if at is not None:
            shown["in_force"] = self.starts_at <= at and (self.ends_at is None or at < self.ends_at)
        return shown
