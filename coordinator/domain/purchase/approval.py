"""Purchases that wait for approvers, and how approving would be judged now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.domain.limits.limits import LimitState
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.reasons import Reason
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339


def approval_id_of(purchase_id: str) -> str:
    """Return the id of the purchase's approval: what is signed for it is signed for no other."""
    return f"apr_{purchase_id.removeprefix('pur_')}"


@dataclass(frozen=True, slots=True)
class PendingApproval(Shown):
    """A purchase that waits for people; times are unix seconds."""

    id: str
    purchase: Purchase
    required: int
    created_at: int
    expires_at: int

    @property
    def approved_by(self) -> tuple[str, ...]:
        return approved_names(self.purchase)

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON, without the fields judged when it is shown."""
        p = self.purchase
        return {
            "approval_id": self.id,
            "kind": "purchase",
            "purchase_id": p.id,
            "status": p.status.value,
            "agent": p.agent,
            "provider": p.provider,
            "provider_name": p.provider_name,
            "amount": str(p.amount),
            "purpose": p.purpose,
            "service": p.service,
            "category": p.category,
            "task": p.task,
            "session": p.session,
            "reason": p.reason.as_dict() if p.reason else None,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "required": self.required,
            "approved_by": list(self.approved_by),
        }


@dataclass(frozen=True, slots=True)
class JudgedApproval(Shown):
    """A waiting approval, with its limits and refusals as of now.

    ``limits`` are all that the purchase touches, without its own hold, each marked broken where
    the purchase does not fit. ``undecidable`` is why nobody (or not the approver who was named)
    can decide it, ``misfits`` are why the policy refuses it by now.
    """

    approval: PendingApproval
    limits: tuple[LimitState, ...]
    undecidable: Reason | None
    misfits: tuple[Reason, ...]

    @property
    def refusals(self) -> tuple[Reason, ...]:
        """Every reason why approving it would be refused."""
        return (*(() if self.undecidable is None else (self.undecidable,)), *self.misfits)

    @property
    def waits(self) -> bool:
        """Whether people can still decide it."""
        return self.approval.purchase.needs_approval

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.approval.as_dict(),
            "refusals": [reason.as_dict() for reason in self.refusals],
            "limits": [state.as_dict() for state in self.limits],
        }


def approved_names(purchase: Purchase) -> tuple[str, ...]:
    """Return who has said yes to the purchase."""
    return tuple(d.approver for d in purchase.approvals if d.decision == "approved")


@dataclass(frozen=True, slots=True)
class Approver:
    """The approver, with the host and user account of the decision."""

    name: str
    host: str
    user: str
