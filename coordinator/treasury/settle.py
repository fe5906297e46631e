"""Pay the provider of a delivered purchase before its dispute window ends."""

from __future__ import annotations

from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import Approver
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.lifecycle import Status, may_not_settle
from coordinator.domain.purchase.proposal import ProposalKind
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.ledger.spend.moves import order_settle
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.propose import propose


def settle_for_agent(tx: Tx, purchase_id: str, agent: str, *, now: int) -> Answer:
    """Order the settling of an agent's own purchase, up to the agent's threshold."""
    purchase = read_purchase(tx, purchase_id)
    if purchase.status is Status.SETTLED:
        return Answer(True, purchase)
    refusal = (
        may_not_settle(purchase.status)
        or _disabled(tx, agent)
        or _agent_may_not(tx.policy, purchase, agent)
        or _provider_paused(tx, purchase)
    )
    if refusal is not None:
        return Answer(False, purchase, refusal)
    order_settle(tx, purchase.id, by=agent, now=now)
    return Answer(True, read_purchase(tx, purchase.id))


def settle_for_approver(tx: Tx, purchase_id: str, approver: Approver, *, now: int) -> Answer:
    """Propose the settling; it is ordered once enough approvers for its amount agree."""
    purchase = read_purchase(tx, purchase_id)
    if purchase.status is Status.SETTLED:
        return Answer(True, purchase)
    refusal = (
        may_not_settle(purchase.status)
        or not_an_approver(tx.policy, approver.name)
        or _provider_paused(tx, purchase)
    )
    if refusal is not None:
        return Answer(False, purchase, refusal)
    terms = {"purchase_id": purchase.id, "amount": purchase.amount.base_units}
    proposed = propose(tx, ProposalKind.SETTLE, terms, approver, reason="settled early", now=now)
    return Answer(proposed.refusal is None, read_purchase(tx, purchase.id), proposed.refusal)


def _agent_may_not(policy: Policy, purchase: Purchase, agent: str) -> Reason | None:
    if purchase.agent != agent:
        return Reason(ReasonCode.NOT_SETTLEABLE, f"this purchase belongs to {purchase.agent}")
    threshold = policy.threshold(agent)
    if threshold is not None and purchase.amount > threshold:
        text = (
            f"{purchase.amount} USDC is above the agent's threshold of {threshold}:"
            " an approver must settle it"
        )
        return Reason(ReasonCode.APPROVAL_REQUIRED, text)
    return None


def _disabled(tx: Tx, agent: str) -> Reason | None:
    if tx.rules.enabled(agent):
        return None
    return Reason(ReasonCode.AGENT_DISABLED, f"{agent} is disabled")


def _provider_paused(tx: Tx, purchase: Purchase) -> Reason | None:
    if ("provider", purchase.provider_name) not in tx.treasury_state.paused:
        return None
    return Reason(ReasonCode.PROVIDER_PAUSED, f"{purchase.provider_name} is paused")
