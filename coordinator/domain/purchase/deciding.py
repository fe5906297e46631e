"""Who may decide in the treasury's name."""

from __future__ import annotations

from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalStatus
from coordinator.domain.reasons import Reason, ReasonCode


def not_an_approver(policy: Policy, name: str) -> Reason | None:
    """Say why ``name`` may not decide in the treasury's name; None when it may.

    Who may approve only up to an amount, as agents do, may not.
    """
    approvers = policy.approvals.approvers.items()
    allowed = [one for one, approver in approvers if not approver.agent and approver.up_to is None]
    if name in allowed:
        return None
    text = f"{name} is not an approver; approvers: {', '.join(allowed) or 'none'}"
    return Reason(ReasonCode.NOT_AN_APPROVER, text)


def may_not_decide(policy: Policy, proposal: Proposal, approver: str) -> Reason | None:
    """Say why the approver can't decide the proposal; None when they can."""
    refusal = not_an_approver(policy, approver)
    if refusal is not None or proposal.waits:
        return refusal
    code = {
        ProposalStatus.EXPIRED: ReasonCode.APPROVAL_EXPIRED,
        ProposalStatus.REJECTED: ReasonCode.REJECTED,
    }.get(proposal.status, ReasonCode.APPROVAL_NOT_FOUND)
    return Reason(code, f"it does not wait for approval: it is {proposal.status}")
