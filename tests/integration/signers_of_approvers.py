"""Approvers of tests with keys, who sign what they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer
from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.credentials import Credential, CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.signed import GivenSignature
from coordinator.ledger.tx.activation import activate_policy
from tests.integration.world import World

KEYS = {
    name: "0x" + f"{number:02x}" * 32
    for number, name in enumerate(("alice", "bob", "carol", "dora", "mallory"), start=0x21)
}


def key_of(name: str) -> Signer:
    """Return the signer of an approver's key."""
    return load_signer("env:KEY", {"KEY": KEYS[name]})


def credential(name: str) -> Credential:
    return Credential(CredentialKind.ADDRESS, key_of(name).address)


def signing(*names: str, **terms: Any) -> dict[str, Approver]:
    """Return approvers of the policy who decide by signing."""
    return {name: Approver(credentials=[credential(name)], **terms) for name in names}


@dataclass(frozen=True, slots=True)
class People:
    """Approvers at work on one coordinator."""

    world: World

    def sign(self, approval_id: str, name: str, *, reason: str | None = None) -> GivenSignature:
        """Sign what the coordinator asks ``name`` to sign."""
        asked = self.world.coordinator.statement(approval_id, reason=reason)
        return GivenSignature(signature=key_of(name).sign_typed(asked.message))

    def approve(self, approval_id: str, name: str) -> Any:
        signature = self.sign(approval_id, name)
        return self.world.coordinator.approve(approval_id, approver=name, signature=signature)

    def approve_proposal(self, proposal_id: str, name: str) -> Any:
        return self.world.coordinator.approve_proposal(
            proposal_id, approver=name, signature=self.sign(proposal_id, name)
        )

    def put_in_force(self, policy: Policy, *names: str) -> None:
        """Draft a version, and have it signed by these approvers."""
        draft = self.world.coordinator.draft_policy(policy, by="olga", reason="a test")
        for name in names:
            _, refusal = self.approve_proposal(draft.id, name)
        assert refusal is None, refusal

    def activate_unsigned(self, policy: Policy, *, proposal: str = "pol_made_up") -> None:
        """Put a version in force as the code of a host can that asks nobody."""
        wiring = self.world.coordinator.wiring
        with wiring.transactions.write() as tx:
            activate_policy(
                tx,
                policy,
                contracts=wiring.contracts,
                author="mallory",
                reason="a test",
                now=self.world.clock(),
                proposal=proposal,
            )
