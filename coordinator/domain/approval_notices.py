"""Notices to approvers: what waits for them, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.domain.notices import Notice, Severity
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc


def approval_waits(
    approval_id: str, agent: str, provider: str, amount: Usdc, required: int, now: int
) -> Notice:
    """Make the notice of a purchase that waits for approvers, once for each approval.

    The purpose is left out: an agent wrote it, and chat programs act on what they are sent.
    """
    return Notice(
        key=f"approval:{approval_id}",
        at=now,
        kind="approval_waits",
        severity=Severity.WARNING,
        subject=approval_id,
        message=(
            f"{agent} asks to pay {provider} {amount} USDC; approvals needed: {required}"
            f" (coordinator approvals show {approval_id})"
        ),
        fields={
            "approval_id": approval_id,
            "agent": agent,
            "provider": provider,
            "amount": str(amount),
            "required": str(required),
        },
    )


def approval_waits_again(
    approval_id: str, agent: str, provider: str, amount: Usdc, why: str, now: int
) -> Notice:
    """Make the notice of a purchase whose approvals count no more, each time it happens."""
    return Notice(
        key=f"approval:{approval_id}:{now}",
        at=now,
        kind="approval_waits",
        severity=Severity.WARNING,
        subject=approval_id,
        message=(
            f"{agent}'s {amount} USDC to {provider} has to be approved again: {why}"
            f" (coordinator approvals show {approval_id})"
        ),
        fields={
            "approval_id": approval_id,
            "agent": agent,
            "provider": provider,
            "amount": str(amount),
            "why": why,
        },
    )


def proposal_waits(proposal: Proposal, now: int) -> Notice:
    """Make the notice of a proposal that needs more approvers, once for each yes."""
    done = len(proposal.approved_by)
    return Notice(
        key=f"proposal:{proposal.id}:{done}",
        at=now,
        kind="approval_waits",
        severity=Severity.WARNING,
        subject=proposal.id,
        message=(
            f"{proposal.by} proposes to {_asks(proposal)}; approvals: {done} of {proposal.required}"
            f" (coordinator approvals show {proposal.id})"
        ),
        fields={
            "approval_id": proposal.id,
            "kind": proposal.kind.value,
            "approvals": str(done),
            "required": str(proposal.required),
            **proposal.shown_terms,
        },
    )


def _asks(proposal: Proposal) -> str:
    return "change the policy" if proposal.kind is ProposalKind.POLICY else proposal.kind.value


def approval_expires_soon(fields: Mapping[str, str], now: int) -> Notice:
    """Make the notice that an approval is in the last quarter of its time, once for each."""
    approval_id = fields["approval_id"]
    return Notice(
        key=f"approval_expires_soon:{approval_id}",
        at=now,
        kind="approval_expires_soon",
        severity=Severity.WARNING,
        subject=approval_id,
        message=(
            f"{_described(fields)} still waits for approval and expires at {fields['expires_at']}"
            f" (coordinator approvals show {approval_id})"
        ),
        fields=fields,
    )


def approval_expired(fields: Mapping[str, str], now: int) -> Notice:
    """Make the notice of a purchase that nobody approved in time; its hold is voided."""
    approval_id = fields["approval_id"]
    return Notice(
        key=f"approval_expired:{approval_id}",
        at=now,
        kind="approval_expired",
        severity=Severity.WARNING,
        subject=approval_id,
        message=f"{_described(fields)} was not approved in time: the agent has to ask again",
        fields=fields,
    )


def approval_decided(
    fields: Mapping[str, str], decision: str, approvers: Sequence[str], now: int
) -> Notice:
    """Make the notice of an approved or rejected purchase; ``decision`` says which."""
    approval_id, by = fields["approval_id"], ", ".join(approvers)
    return Notice(
        key=f"approval_decided:{approval_id}",
        at=now,
        kind="approval_decided",
        severity=Severity.INFO,
        subject=approval_id,
        message=f"{_described(fields)} was {decision} by {by}",
        fields={**fields, "decision": decision, "approvers": by},
    )


def _described(fields: Mapping[str, str]) -> str:
    return f"{fields['agent']}'s purchase of {fields['amount']} USDC from {fields['provider']}"


def policy_recovery(proposal: Proposal, takes_effect: int, now: int) -> Notice:
    """Make the notice that the treasury's key replaces the policy unless an approver rejects it."""
    at = rfc3339(takes_effect) or ""
    return Notice(
        key=f"policy_recovery:{proposal.id}",
        at=now,
        kind="policy_recovery",
        severity=Severity.CRITICAL,
        subject=proposal.id,
        message=(
            f"{proposal.by} recovers the policy with the treasury's key: {proposal.reason}; it"
            f" takes effect at {at} unless an approver rejects it"
            f" (coordinator approvals reject {proposal.id})"
        ),
        fields={"approval_id": proposal.id, "by": proposal.by, "takes_effect": at},
    )
