"""Events for observers, emitted after the commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from coordinator.domain.purchase.cost import CostDecision, CostRequest
from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import Usdc

KINDS: Final = ("decision", "check", "hold", "post", "void", "alert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event at a unix second; changing it has no effect.

    ``kind`` is one of KINDS. ``outcome`` is a decision's or check's (approved, awaiting_approval,
    denied), what a hold is for (purchase, bond, off_chain), or an alert's kind; ``reason`` the
    code of a denial, or an alert's message. ``amount`` is what was asked, held, posted or given
    back. ``ids`` name the purchase, the cost or the notice.
    """

    kind: str
    at: int
    agent: str | None = None
    amount: Usdc | None = None
    outcome: str | None = None
    reason: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", MappingProxyType(dict(self.ids)))


Emit = Callable[[Event], None]
"""Called after a commit; never raises and never waits."""


def nobody_looks(event: Event) -> None:
    """Emit nothing: nobody observes."""


def decided(kind: str, request: Request, decision: Decision, now: int, **ids: str) -> Event:
    """Make the event of a ``decision`` or a ``check`` of a request."""
    reason = decision.reason
    return Event(
        kind=kind,
        at=now,
        agent=request.agent,
        amount=request.amount,
        outcome=decision.outcome.value,
        reason=reason.code.value if reason else None,
        ids=ids,
    )


def judged_cost(
    kind: str, request: CostRequest, decision: CostDecision, now: int, **ids: str
) -> Event:
    """Make the event of a ``decision`` or a ``check`` of a cost: approved or denied."""
    code = decision.reasons[0].code.value if decision.reasons else None
    return Event(
        kind=kind,
        at=now,
        agent=request.agent,
        amount=request.amount,
        outcome="denied" if decision.reasons else "approved",
        reason=code,
        ids=ids,
    )


def held(of: str, *, amount: Usdc, agent: str | None, now: int, **ids: str) -> Event:
    """Make the event of a hold: of a purchase, a bond or an off_chain cost."""
    return Event(kind="hold", at=now, agent=agent, amount=amount, outcome=of, ids=ids)


def ended(of: str, *, held: Usdc, spent: Usdc, agent: str | None, now: int, **ids: str) -> Event:
    """Make the event of a hold's end: post with the amount spent, void with the amount held."""
    return Event(
        kind="post" if spent else "void",
        at=now,
        agent=agent,
        amount=spent or held,
        outcome=of,
        ids=ids,
    )
