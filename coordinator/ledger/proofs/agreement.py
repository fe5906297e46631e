"""Count the approvers whose word counts under a policy, signature by signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.domain.limits.increase import Increase
from coordinator.domain.policy.approvals import Quorum
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import approval_id_of
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.proposal import Proposal
from coordinator.domain.statements.making import (
    increase_statement,
    proposal_quorum,
    proposal_statement,
    purchase_statement,
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question that approvers answered: the statement, and whose answer counts.

    ``may_decide`` says why a person may not; ``without`` is who asked: that yes does not count.
    """

    statement: Statement
    quorum: Quorum
    may_decide: Callable[[str], str | None]
    without: frozenset[str] = frozenset()


def agreement(
    policy: Policy,
    question: Question,
    decisions: Mapping[str, Mapping[str, Any]],
    trust: Trust | None,
    *,
    still_signs: StillSigns = nobody_asks,
) -> Agreement:
    """Return whose yes of ``decisions`` (by name, as the audit log tells them) counts."""
    names, faults = list[str](), dict[str, str]()
    for name, said in decisions.items():
        if said["decision"] != "approved":
            continue
        why = _does_not_count(policy, question, name, said, trust, still_signs)
        why = why or shares_key({other: decisions[other] for other in names}, name, said)
        if why is None:
            names.append(name)
        else:
            faults[name] = why
    approvers = [policy.approvals.approvers[name] for name in names]
    return Agreement(tuple(names), faults, question.quorum, question.quorum.met_by(approvers))


def shares_key(
    decisions: Mapping[str, Mapping[str, Any]], name: str, said: Mapping[str, Any]
) -> str | None:
    """Say with whom of the others an approver shares a key: each key speaks for one approver.

    The owners of a Safe are its keys, whoever of them signed.
    """
    keys = _keys(said)
    for other, theirs in decisions.items():
        shared = keys & _keys(theirs) if other != name else frozenset()
        if shared:
            return f"{min(shared)} signs for {other}, too: each key counts for one approver"
    return None


def _keys(said: Mapping[str, Any]) -> frozenset[str]:
    try:
        signed = Signed.from_dict(said.get("signed") or {})
    except ValueError:
        return frozenset()
    owners = signed.safe.owners if signed.safe is not None else ()
    return frozenset({signed.credential.address, *owners})


def _does_not_count(
    policy: Policy,
    question: Question,
    name: str,
    said: Mapping[str, Any],
    trust: Trust | None,
    still_signs: StillSigns,
) -> str | None:
    approver = policy.approvals.approvers.get(name)
    if approver is None:
        return "the policy in force has no such approver"
    if name in question.without:
        return "who asked does not approve it"
    if (why := question.may_decide(name)) is not None:
        return why
    if not policy.approvals.has_to_sign(name):
        return None
    try:
        if trust is None:
            raise ValueError("it is not known for which treasury it was signed")
        signed = Signed.from_dict(said.get("signed") or {})
        check_signed(signed, question.statement, approver, name=name, trust=trust)
    except ValueError as fault:
        return str(fault)
    return still_signs(signed)


def purchase_agreement(
    policy: Policy,
    past: LoggedPurchase,
    trust: Trust | None,
    *,
    still_signs: StillSigns = nobody_asks,
) -> Agreement:
    """Return whose approvals of a purchase, as the audit log tells them, count under ``policy``."""
    amount = Usdc.from_base_units(past.amount)

    def may_decide(name: str) -> str | None:
        most = policy.approvals.approvers[name].up_to
        return f"may approve up to {most} USDC" if most is not None and amount > most else None

    question = Question(
        statement=expected_statement(policy, past),
        quorum=at_least(policy.approvals.quorum(amount), (past.approval or {}).get("required", 0)),
        may_decide=may_decide,
        without=frozenset({past.agent} if past.agent is not None else ()),
    )
    return agreement(policy, question, past.decisions, trust, still_signs=still_signs)


def proposal_agreement(
    policy: Policy,
    proposal: Proposal,
    decisions: Mapping[str, Mapping[str, Any]],
    trust: Trust | None,
    *,
    still_signs: StillSigns = nobody_asks,
) -> Agreement:
    """Return whose approvals of a proposal, as the audit log tells them, count under ``policy``."""

    def may_decide(name: str) -> str | None:
        refusal = not_an_approver(policy, name)
        return refusal.message if refusal is not None else None

    question = Question(
        statement=proposal_statement(policy, proposal),
        quorum=at_least(proposal_quorum(policy, proposal), proposal.required),
        may_decide=may_decide,
        without=frozenset({proposal.by} if policy.approvals.four_eyes else ()),
    )
    return agreement(policy, question, decisions, trust, still_signs=still_signs)


def increase_agreement(
    policy: Policy,
    increase: Increase,
    decisions: Mapping[str, Mapping[str, Any]],
    trust: Trust | None,
) -> Agreement:
    """Return whose approvals of a request for more, as the audit log tells them, count."""

    def may_decide(name: str) -> str | None:
        most = policy.approvals.approvers[name].up_to
        over = most is not None and increase.amount > most
        return f"may approve up to {most} USDC" if over else None

    question = Question(
        statement=increase_statement(policy, increase),
        quorum=at_least(policy.approvals.quorum(increase.amount), increase.required),
        may_decide=may_decide,
        without=frozenset({increase.agent}),
    )
    return agreement(policy, question, decisions, trust)


def at_least(quorum: Quorum, required: int) -> Quorum:
    """Return the quorum with no fewer approvers than were required when it was question."""
    if required <= quorum.required:
        return quorum
    return quorum.model_copy(update={"required": required})


def expected_statement(
    policy: Policy, past: LoggedPurchase, *, reason: str | None = None
) -> Statement:
    """Return the statement that approvers of this purchase have to sign under ``policy``."""
    approval = past.approval or {"expires_at": 0}
    return purchase_statement(
        policy,
        # Whatever its rows say: one that was signed for another purchase counts for no second.
        approval_id=approval_id_of(past.id),
        agent=past.agent or "",
        provider=past.provider,
        amount=Usdc.from_base_units(past.amount),
        service=past.words.get("service"),
        settle=past.settle,
        host=past.x402["host"] if past.x402 is not None else None,
        expires_at=approval["expires_at"],
        reason=reason,
    )
