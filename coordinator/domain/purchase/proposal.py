"""Proposals: withdrawals, early settles, unpauses and policies that approvers agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc


class ProposalKind(StrEnum):
    WITHDRAW = "withdraw"
    SETTLE = "settle"
    UNPAUSE = "unpause"
    POLICY = "policy"


class ProposalStatus(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


PREFIXES: Final = {
    ProposalKind.WITHDRAW: "wdr_",
    ProposalKind.SETTLE: "set_",
    ProposalKind.UNPAUSE: "unp_",
    ProposalKind.POLICY: "pol_",
}


@dataclass(frozen=True, slots=True)
class Proposal(Shown):
    """One proposal; times are unix seconds, an amount in ``terms`` is in base units.

    ``terms`` of a withdrawal: recipient, amount; of a settle: purchase_id, amount; of an unpause:
    scope_kind, scope_id; of a policy: hash, before (the hash it replaces), document.
    """

    id: str
    kind: ProposalKind
    terms: Mapping[str, Any]
    by: str
    reason: str
    status: ProposalStatus
    required: int
    approved_by: tuple[str, ...]
    created_at: int
    expires_at: int

    @property
    def waits(self) -> bool:
        """Whether more approvers have to say yes."""
        return self.status is ProposalStatus.AWAITING_APPROVAL

    @property
    def shown_terms(self) -> dict[str, str]:
        """The terms as text, an amount in USDC."""
        return {
            name: str(Usdc.from_base_units(value)) if name == "amount" else str(value)
            for name, value in self.terms.items()
            if name != "document"
        }

    def waiting(self) -> Reason:
        """Say how many approvals are missing and how they are given."""
        done, more = len(self.approved_by), max(1, self.required - len(self.approved_by))
        others = "more " if done else ""
        approvers = f"{more} {others}approver{'s have' if more > 1 else ' has'}"
        # So many have said yes, and none of a group that is asked for.
        group = ", none of a group that is asked for" if done >= self.required else ""
        return Reason(
            ReasonCode.MORE_APPROVALS_REQUIRED,
            f"{done} of {self.required} approvals{group}: {approvers} to run"
            f" `coordinator approvals approve {self.id}` before {rfc3339(self.expires_at)}",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "approval_id": self.id,
            "kind": self.kind.value,
            "status": self.status.value,
            "terms": self.shown_terms,
            "by": self.by,
            "reason": self.reason,
            "required": self.required,
            "approved_by": list(self.approved_by),
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
        }
