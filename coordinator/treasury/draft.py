"""Draft a version of the policy: approvers sign it, and the last one needed puts it in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coordinator.domain.approval_notices import policy_recovery, proposal_waits
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.policy.delays import change_delay
from coordinator.domain.policy.payees import Contracts, unpayable_providers
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.proposal import Proposal, ProposalKind
from coordinator.domain.statements.recovery import RECOVERY_SECONDS, recovery_message
from coordinator.domain.typed_data import TypedData
from coordinator.ledger.spend.proposals import (
    expire_proposals,
    find_same_proposal,
    insert_proposal,
)
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.propose import new_proposal

SignTyped = Callable[[TypedData], str]
"""Sign as the treasury; the signature in hex."""


def recover_policy(
    tx: Tx,
    policy: Policy,
    *,
    contracts: Contracts,
    by: str,
    reason: str,
    now: int,
    sign: SignTyped,
) -> Proposal:
    """Begin a recovery: a version that the treasury's key signs takes effect after 72 hours.

    Any approver may reject it meanwhile. InvalidRequest before the treasury is known.
    """
    _require_payable(policy, contracts)
    trust, before = tx.trust, tx.policy.hash
    if trust is None:
        raise InvalidRequest("nothing can be signed before the treasury is known")
    terms: dict[str, Any] = {
        "hash": policy.hash,
        "before": before,
        "document": policy.document(),
    }
    made = new_proposal(ProposalKind.POLICY, terms, by, reason, tx.policy, now, RECOVERY_SECONDS)
    message = recovery_message(
        trust, id_=made.id, policy=policy.hash, replaces=before, begun_at=now
    )
    made = replace(made, terms={**terms, "recovery": sign(message)})
    insert_proposal(tx, made, now)
    tx.notify([policy_recovery(made, now + RECOVERY_SECONDS, now)])
    return made


def draft_policy(
    tx: Tx, policy: Policy, *, contracts: Contracts, by: str, reason: str, now: int
) -> Proposal:
    """Propose a version; the same draft that waits already is returned as it is.

    One equal to the version in force may be drafted, too: so approvers sign what was applied
    without them. ConfigurationError when a provider can't be paid.
    """
    expire_proposals(tx, now)
    _require_payable(policy, contracts)
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


def _require_payable(policy: Policy, contracts: Contracts) -> None:
    unpayable = unpayable_providers(policy, contracts)
    faults = [f"providers.{name}.address: {why}" for name, why in unpayable]
    if faults:
        raise ConfigurationError(*faults)
