"""Count the approvers whose word on a purchase counts under a policy, signature by signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain.policy.approvals import Quorum
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.faults import BadSignature
from coordinator.domain.statements.making import purchase_statement
from coordinator.domain.statements.signed import Signed, check_signed
from coordinator.domain.statements.statement import Statement
from coordinator.domain.typed_data import Trust
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.audit_fold import LoggedPurchase

StillSigns = Callable[[Signed], str | None]
"""Says why a Safe's signature counts no more on the chain; None while it does."""


def nobody_asks(signed: Signed) -> str | None:
    """Take the owners that were recorded for those of today."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """``names``: whose yes counts; ``faults``: why another's does not, by name."""

    names: tuple[str, ...]
    faults: Mapping[str, str]
    quorum: Quorum
    met: bool

    @property
    def missing(self) -> str:
        """Say what is missing, with the words that do not count."""
        groups = f", one from each of {', '.join(self.quorum.from_each)}"
        asked = f"{len(self.names)} of {self.quorum.required} approvals count"
        asked += groups if self.quorum.from_each else ""
        return "; ".join(
            [asked, *(f"{name}'s does not: {why}" for name, why in self.faults.items())]
        )


def purchase_agreement(
    policy: Policy,
    past: LoggedPurchase,
    trust: Trust | None,
    *,
    still_signs: StillSigns = nobody_asks,
) -> Agreement:
    """Return whose approvals of a purchase, as the audit log tells them, count under ``policy``."""
    amount = Usdc.from_base_units(past.amount)
    quorum = policy.approvals.quorum(amount)
    if past.approval is not None and past.approval["required"] > quorum.required:
        quorum = quorum.model_copy(update={"required": past.approval["required"]})
    names, faults = [], dict[str, str]()
    for name, said in past.decisions.items():
        if said["decision"] != "approved":
            continue
        why = _does_not_count(policy, past, amount, name, said, trust, still_signs)
        if why is None:
            names.append(name)
        else:
            faults[name] = why
    approvers = [policy.approvals.approvers[name] for name in names]
    return Agreement(tuple(names), faults, quorum, quorum.met_by(approvers))


def _does_not_count(
    policy: Policy,
    past: LoggedPurchase,
    amount: Usdc,
    name: str,
    said: Mapping[str, Any],
    trust: Trust | None,
    still_signs: StillSigns,
) -> str | None:
    approver = policy.approvals.approvers.get(name)
    if approver is None:
        return "the policy in force has no such approver"
    if name == past.agent:
        return "who asked does not approve it"
    if approver.up_to is not None and amount > approver.up_to:
        return f"may approve up to {approver.up_to} USDC"
    if not policy.approvals.has_to_sign(name):
        return None
    try:
        if trust is None:
            raise ValueError("it is not known for which treasury it was signed")
        signed = Signed.from_dict(said.get("signed") or {})
        check_signed(signed, expected_statement(policy, past), approver, name=name, trust=trust)
    except BadSignature as fault:
        return str(fault)
    except ValueError as fault:
        return str(fault)
    return still_signs(signed)


def expected_statement(
    policy: Policy, past: LoggedPurchase, *, decision: str = "approved", reason: str | None = None
) -> Statement:
    """Return the statement that approvers of this purchase have to sign under ``policy``."""
    assert past.approval is not None
    return purchase_statement(
        policy,
        approval_id=past.approval["id"],
        agent=past.agent or "",
        provider=past.provider,
        amount=Usdc.from_base_units(past.amount),
        service=past.words.get("service"),
        settle=past.settle,
        expires_at=past.approval["expires_at"],
        decision=decision,
        reason=reason,
    )
