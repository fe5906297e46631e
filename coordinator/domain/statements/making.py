"""Make the statements that approvers sign, from the policy and what is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from coordinator.domain.address import ZERO_ADDRESS
from coordinator.domain.limits.increase import Increase
from coordinator.domain.policy.approvals import Quorum
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.statements.rules import purchase_rules, quorum_rules
from coordinator.domain.statements.statement import Action, Statement
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.offer import VALID_SECONDS_MAX

_ACTIONS: Final = {
    ProposalKind.WITHDRAW: Action.WITHDRAW,
    ProposalKind.SETTLE: Action.SETTLE,
    ProposalKind.UNPAUSE: Action.UNPAUSE,
    ProposalKind.POLICY: Action.POLICY,
}


def purchase_statement(
    policy: Policy,
    *,
    approval_id: str,
    agent: str,
    provider: str,
    amount: Usdc,
    service: str | None,
    settle: str,
    expires_at: int,
    host: str | None = None,
    reason: str | None = None,
) -> Statement:
    """Return the statement of a purchase under this policy; a ``reason`` rejects it.

    ``provider`` is the payee's address, ``host`` where an HTTP request is paid for.
    """
    return Statement(
        id=approval_id,
        action=Action.PURCHASE,
        decision="approved" if reason is None else "rejected",
        expires_at=expires_at,
        rules=purchase_rules(policy, provider=provider, amount=amount),
        agent=agent,
        account=provider,
        amount=amount.base_units,
        service=service or "",
        terms=escrow_terms(policy, settle) if host is None else request_terms(host),
        reason=reason or "",
    )


def escrow_terms(policy: Policy, settle: str) -> str:
    """Return the terms under which the escrow is made, in words."""
    terms = policy.escrow
    return (
        f"escrow: deadline {terms.deadline_after} s after it is created,"
        f" dispute window {terms.dispute_window} s, settle {settle}"
    )


def request_terms(host: str) -> str:
    """Return the terms under which an HTTP request is paid for, in words."""
    return f"x402: one request to {host}, authorised for at most {VALID_SECONDS_MAX} s"


def proposal_statement(
    policy: Policy, proposal: Proposal, *, reason: str | None = None
) -> Statement:
    """Return the statement of a proposal under this policy; a ``reason`` rejects it."""
    terms, amount = proposal.terms, _amount(proposal)
    return Statement(
        id=proposal.id,
        action=_ACTIONS[proposal.kind],
        decision="approved" if reason is None else "rejected",
        expires_at=proposal.expires_at,
        rules=quorum_rules(policy, amount=amount),
        account=terms.get("recipient", ZERO_ADDRESS),
        amount=amount.base_units if amount is not None else 0,
        terms=_words(proposal),
        reason=proposal.reason if reason is None else reason,
    )


def proposal_quorum(policy: Policy, proposal: Proposal) -> Quorum:
    """Return who has to approve it: by its amount, or for what has none by the base rule."""
    return policy.approvals.quorum(_amount(proposal))


def _amount(proposal: Proposal) -> Usdc | None:
    units = proposal.terms.get("amount")
    return None if units is None else Usdc.from_base_units(units)


def _words(proposal: Proposal) -> str:
    terms = proposal.terms
    if proposal.kind is ProposalKind.SETTLE:
        return f"pay purchase {terms['purchase_id']} before its dispute window ends"
    if proposal.kind is ProposalKind.UNPAUSE:
        return f"allow spending again: {':'.join(filter(None, _scope(terms)))}"
    if proposal.kind is ProposalKind.POLICY:
        return f"policy {terms['hash']} in place of {terms['before'] or 'none'}"
    return ""


def _scope(terms: Mapping[str, Any]) -> tuple[str, str]:
    return terms["scope_kind"], terms["scope_id"]


def increase_statement(
    policy: Policy, increase: Increase, *, reason: str | None = None
) -> Statement:
    """Return the statement of a request for more than a limit gives; a ``reason`` rejects it."""
    scope = ":".join(filter(None, (increase.scope.kind.value, increase.scope.id)))
    return Statement(
        id=increase.id,
        action=Action.INCREASE,
        decision="approved" if reason is None else "rejected",
        expires_at=increase.expires_at,
        rules=quorum_rules(policy, amount=increase.amount),
        agent=increase.agent,
        amount=increase.amount.base_units,
        terms=f"{increase.kind} of the {increase.window} limit of {scope}"
        f" for {increase.lasts_seconds} s",
        reason=reason or "",
    )


def dispute_statement(
    policy: Policy, *, purchase_id: str, bond: Usdc, window_ends: int, reason: str
) -> Statement:
    """Return the statement of a dispute, which one approver orders: its bond may be lost."""
    return Statement(
        id=purchase_id,
        action=Action.DISPUTE,
        decision="approved",
        expires_at=window_ends,
        rules=quorum_rules(policy),
        amount=bond.base_units,
        terms="dispute the delivery; the amount is the bond, lost if the provider is right",
        reason=reason,
    )
