"""Check who may decide in the treasury's name, and whether a decision is still possible."""

from __future__ import annotations

from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.proposal import Proposal, ProposalKind, ProposalStatus
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339


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


def may_not_decide_proposal(policy: Policy, proposal: Proposal, approver: str) -> Reason | None:
    """Say why the approver can't decide the proposal; None when they can."""
    refusal = not_an_approver(policy, approver)
    if refusal is not None or proposal.waits:
        return refusal
    if proposal.status is ProposalStatus.EXPIRED and (late := overtaken(policy, proposal)):
        return late
    code = {
        ProposalStatus.EXPIRED: ReasonCode.APPROVAL_EXPIRED,
        ProposalStatus.REJECTED: ReasonCode.REJECTED,
    }.get(proposal.status, ReasonCode.APPROVAL_NOT_FOUND)
    return Reason(code, f"this proposal does not wait for approval: it is {proposal.status}")


def overtaken(policy: Policy, proposal: Proposal) -> Reason | None:
    """Say that a draft replaces a version that is in force no more; None for anything else."""
    if proposal.kind is not ProposalKind.POLICY or proposal.terms["before"] == policy.hash:
        return None
    text = "another version came into force since it was drafted: draft it again"
    return Reason(ReasonCode.APPROVAL_NOT_FOUND, text)


def may_not_decide_purchase(
    policy: Policy, purchase: Purchase, approver: str, *, expires_at: int
) -> Reason | None:
    """Say why the approver can't decide the purchase; None when they can."""
    allowed = policy.approvals.approvers
    known = allowed.get(approver)
    if known is None or approver == purchase.agent:
        return Reason(
            ReasonCode.NOT_AN_APPROVER,
            f"{approver} may not decide this; approvers: {', '.join(allowed) or 'none'}",
        )
    if known.up_to is not None and purchase.amount > known.up_to:
        return Reason(
            ReasonCode.NOT_AN_APPROVER,
            f"{approver} may decide up to {known.up_to} USDC; this purchase is {purchase.amount}",
        )
    return waits_no_more(purchase, expires_at=expires_at)


def waits_no_more(purchase: Purchase, *, expires_at: int) -> Reason | None:
    """Say why nobody can decide the purchase any more; None while people can."""
    if purchase.needs_approval:
        return None
    if purchase.status is Status.EXPIRED:
        text = f"this request expired at {rfc3339(expires_at)}; the agent must ask again"
        return Reason(ReasonCode.APPROVAL_EXPIRED, text)
    code = {
        Status.REJECTED: ReasonCode.REJECTED,
        Status.CANCELLED: ReasonCode.CANCELLED,
    }.get(purchase.status, ReasonCode.APPROVAL_NOT_FOUND)
    return Reason(code, f"this purchase does not wait for approval: it is {purchase.status}")
