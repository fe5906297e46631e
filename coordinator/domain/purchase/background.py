"""Background to a decision: what was done before with the provider, and by the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.limits.limits import Used
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339

#: Counts stop here: more would tell nobody more, and reading stays short in any history.
COUNTED_MAX: Final = 1_000
DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class ProviderPast(Shown):
    """Escrows with a provider's address before: how many were settled, how many disputed.

    At most ``COUNTED_MAX`` are counted of each.
    """

    address: str
    settled: int
    disputed: int

    @property
    def first_payment(self) -> bool:
        """Whether nothing was ever settled with it."""
        return self.settled == 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "settled": self.settled,
            "disputed": self.disputed,
            "first_payment": self.first_payment,
        }


@dataclass(frozen=True, slots=True)
class AgentPast(Shown):
    """An agent's last ``DAYS`` days: its requests, and what it spent and held by day.

    ``counts`` are by status, of its newest ``COUNTED_MAX`` requests.
    """

    agent: str
    counts: Mapping[Status, int]
    days: Sequence[Used]

    @property
    def requests(self) -> int:
        return sum(self.counts.values())

    @property
    def paid(self) -> int:
        """Requests whose USDC went into escrow and was not given back."""
        return sum(count for status, count in self.counts.items() if status in ESCROWED)

    @property
    def denied(self) -> int:
        return self.counts.get(Status.DENIED, 0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "agent": self.agent,
            "requests": self.requests,
            "paid": self.paid,
            "denied": self.denied,
            "days": [
                {
                    "start": rfc3339(day.start),
                    "spent": str(day.usage.spent),
                    "held": str(day.usage.held),
                }
                for day in self.days
            ],
        }


@dataclass(frozen=True, slots=True)
class Decided:
    """One person's word; ``decision`` is ``approved`` or ``rejected``, ``at`` a unix second."""

    approver: str
    decision: str
    reason: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Background(Shown):
    """The past of whoever a decision is about; None where it is about no provider or no agent."""

    provider: ProviderPast | None
    agent: AgentPast | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider.as_dict() if self.provider else None,
            "agent": self.agent.as_dict() if self.agent else None,
        }
