"""The hash of what decides a statement: other changes of the policy leave it valid."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from coordinator.domain.canonical import canonical_json
from coordinator.domain.usdc import Usdc

if TYPE_CHECKING:
    from coordinator.domain.policy.policy import Policy


def purchase_rules(policy: Policy, *, provider: str, amount: Usdc) -> str:
    """Return the hash of what decides a purchase: its payee, its quorum and the approvers."""
    name, entry = policy.provider(provider)
    payee = None
    if entry is not None:
        payee = {"name": name, "address": entry.address, "service": entry.service}
    return _hash({"provider": payee, **_quorum(policy, amount)})


def quorum_rules(policy: Policy, *, amount: Usdc | None = None) -> str:
    """Return the hash of what decides anything else: its quorum and the approvers."""
    return _hash(_quorum(policy, amount))


def _quorum(policy: Policy, amount: Usdc | None) -> dict[str, Any]:
    approvals = policy.approvals
    quorum = approvals.quorum(amount)
    return {
        "required": quorum.required,
        "from_each": list(quorum.from_each),
        "signatures": approvals.signatures,
        "four_eyes": approvals.four_eyes,
        "approvers": {
            name: approver.model_dump(mode="json", exclude_none=True)
            for name, approver in approvals.approvers.items()
        },
    }


def _hash(value: dict[str, Any]) -> str:
    return sha256(canonical_json(value)).hexdigest()
