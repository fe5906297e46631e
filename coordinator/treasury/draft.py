"""Draft a version of the policy: approvers sign it, and the last one needed puts it in force."""

from __future__ import annotations

from typing import Any

from coordinator.domain.approval_notices import proposal_waits
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.delays import change_delay
from coordinator.domain.policy.payees import Contracts, unpayable_providers
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.ledger.spend.proposals import (
    expire_proposals,
    find_same_proposal,
    insert_proposal,
)
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.propose import new_proposal


def draft_policy(
    tx: Tx, policy: Policy, *, contracts: Contracts, by: str, reason: str, now: int
) -> Proposal:
    """Propose a version; the same draft that waits already is returned as it is.

    One equal to the version in force may be drafted, too: so approvers sign what was applied
    without them. ConfigurationError when a provider can't be paid.
    """
    expire_proposals(tx, now)
    unpayable = unpayable_providers(policy, contracts)
    faults = [f"providers.{name}.address: {why}" for name, why in unpayable]
    if faults:
        raise ConfigurationError(*faults)
    terms: dict[str, Any] = {
        "hash": policy.hash,
        "before": tx.policy.hash,
        "document": policy.document(),
    }
    known = find_same_proposal(tx, ProposalKind.POLICY, terms)
    if known is not None:
        return known
    trust = tx.trust
    delay = change_delay(tx.policy, trust.chain_id if trust is not None else 0)
    made = new_proposal(ProposalKind.POLICY, terms, by, reason, tx.policy, now, delay)
    insert_proposal(tx, made, now)
    tx.notify([proposal_waits(made, now)])
    return made
