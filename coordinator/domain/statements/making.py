"""Make the statements that approvers sign, from the policy and what is decided."""

from __future__ import annotations

from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.rules import purchase_rules
from coordinator.domain.statements.statement import Action, Statement
from coordinator.domain.usdc import Usdc


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
    decision: str = "approved",
    reason: str | None = None,
) -> Statement:
    """Return the statement of a purchase under this policy; ``provider`` is the payee's address."""
    return Statement(
        id=approval_id,
        action=Action.PURCHASE,
        decision=decision,
        expires_at=expires_at,
        rules=purchase_rules(policy, provider=provider, amount=amount),
        agent=agent,
        account=provider,
        amount=amount.base_units,
        service=service or "",
        terms=escrow_terms(policy, settle),
        reason=reason or "",
    )


def escrow_terms(policy: Policy, settle: str) -> str:
    """Return the terms under which the escrow is made, in words."""
    terms = policy.escrow
    return (
        f"escrow: deadline {terms.deadline_after} s after it is created,"
        f" dispute window {terms.dispute_window} s, settle {settle}"
    )
