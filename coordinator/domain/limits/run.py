"""A task or session as it was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain.limits.rules import Opening
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window


@dataclass(frozen=True, slots=True)
class Run(Shown):
    """A task or session as it was opened; times are unix seconds, ``closed_at`` None while open."""

    opening: Opening
    opened_by: str
    opened_at: int
    closed_by: str | None
    closed_at: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; limits by their keys in the policy file."""
        opening = self.opening
        limits: dict[str, Any] = _keys(opening.limits)
        if opening.categories:
            limits["categories"] = {name: _keys(own) for name, own in opening.categories.items()}
        return {
            opening.kind: opening.id,
            "agent": opening.agent,
            "status": "closed" if opening.closed else "open",
            "limits": limits,
            "opened_by": self.opened_by,
            "opened_at": rfc3339(self.opened_at),
            "closed_by": self.closed_by,
            "closed_at": rfc3339(self.closed_at),
        }


def _keys(amounts: Mapping[Window, Usdc]) -> dict[str, str]:
    return {f"{window}_limit": str(amount) for window, amount in amounts.items()}
