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
    text = f"{agent} asks to pay {provider} {amount} USDC; approvals needed: {required}"
    fields = {
        "approval_id": approval_id,
        "agent": agent,
        "provider": provider,
        "amount": str(amount),
        "required": str(required),
    }
    return _notice("approval_waits", f"approval:{approval_id}", fields, _shown(text, fields), now)


def approval_waits_again(
    approval_id: str, agent: str, provider: str, amount: Usdc, why: str, now: int
) -> Notice:
    """Make the notice of a purchase whose approvals count no more, each time it happens."""
    text = f"{agent}'s {amount} USDC to {provider} has to be approved again: {why}"
    fields = {
        "approval_id": approval_id,
        "agent": agent,
        "provider": provider,
        "amount": str(amount),
        "why": why,
    }
    key = f"approval:{approval_id}:{now}"
    return _notice("approval_waits", key, fields, _shown(text, fields), now)


def proposal_waits(proposal: Proposal, now: int) -> Notice:
    """Make the notice of a proposal that needs more approvers, once for each yes."""
    done = len(proposal.approved_by)
    asked = f"{proposal.by} proposes to {_asks(proposal)}"
    text = f"{asked}; approvals: {done} of {proposal.required}"
    fields = {
        "approval_id": proposal.id,
        "kind": proposal.kind.value,
        "approvals": str(done),
        "required": str(proposal.required),
        **proposal.shown_terms,
    }
    key = f"proposal:{proposal.id}:{done}"
    return _notice("approval_waits", key, fields, _shown(text, fields), now)


def _asks(proposal: Proposal) -> str:
    return "change the policy" if proposal.kind is ProposalKind.POLICY else proposal.kind.value


def approval_expires_soon(fields: Mapping[str, str], now: int) -> Notice:
    """Make the notice that an approval is in the last quarter of its time, once for each."""
    text = f"{_described(fields)} still waits for approval and expires at {fields['expires_at']}"
    return _once("approval_expires_soon", fields, _shown(text, fields), now)


def approval_expired(fields: Mapping[str, str], now: int) -> Notice:
    """Make the notice of a purchase that nobody approved in time; its hold is voided."""
    text = f"{_described(fields)} was not approved in time: the agent has to ask again"
    return _once("approval_expired", fields, text, now)


def approval_decided(
    fields: Mapping[str, str], decision: str, approvers: Sequence[str], now: int
) -> Notice:
    """Make the notice of an approved or rejected purchase; ``decision`` says which."""
    by = ", ".join(approvers)
    told = {**fields, "decision": decision, "approvers": by}
    text = f"{_described(fields)} was {decision} by {by}"
    return _once("approval_decided", told, text, now, Severity.INFO)


def policy_recovery(proposal: Proposal, takes_effect: int, now: int) -> Notice:
    """Make the notice that the treasury's key replaces the policy unless an approver rejects it."""
    at = rfc3339(takes_effect) or ""
    text = (
        f"{proposal.by} recovers the policy with the treasury's key: {proposal.reason}; it takes"
        f" effect at {at} unless an approver rejects it"
        f" (coordinator approvals reject {proposal.id})"
    )
    fields = {"approval_id": proposal.id, "by": proposal.by, "takes_effect": at}
    return _once("policy_recovery", fields, text, now, Severity.CRITICAL)


def _described(fields: Mapping[str, str]) -> str:
    return f"{fields['agent']}'s purchase of {fields['amount']} USDC from {fields['provider']}"


def _shown(text: str, fields: Mapping[str, str]) -> str:
    """Add to a message how an approver looks at what it is about."""
    return f"{text} (coordinator approvals show {fields['approval_id']})"


def _once(
    kind: str,
    fields: Mapping[str, str],
    message: str,
    now: int,
    severity: Severity = Severity.WARNING,
) -> Notice:
    """Make a notice that is told once for each approval."""
    return _notice(kind, f"{kind}:{fields['approval_id']}", fields, message, now, severity)


def _notice(
    kind: str,
    key: str,
    fields: Mapping[str, str],
    message: str,
    now: int,
    severity: Severity = Severity.WARNING,
) -> Notice:
    return Notice(key, now, kind, severity, fields["approval_id"], message, fields)
