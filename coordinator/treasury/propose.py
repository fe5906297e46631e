"""Propose, approve and reject withdrawals, early settles and unpauses.

It is carried out in the transaction that counts the last yes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.domain.notices import proposal_waits
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import Approver
from coordinator.domain.purchase.deciding import may_not_decide_proposal, not_an_approver
from coordinator.domain.purchase.lifecycle import may_not_settle
from coordinator.domain.purchase.proposal import PREFIXES, Proposal, ProposalKind, ProposalStatus
from coordinator.domain.reasons import Reason
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.moves import order_settle
from coordinator.ledger.spend.proposals import (
    end_proposal,
    expire_proposals,
    find_same_proposal,
    insert_proposal,
    read_proposal,
)
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.pausing import lift_pause
from coordinator.ledger.tx.transaction import Tx


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal after a decision, or the reason why nothing changed."""

    proposal: Proposal
    refusal: Reason | None = None


def propose(
    tx: Tx,
    kind: ProposalKind,
    terms: Mapping[str, Any],
    approver: Approver,
    *,
    reason: str,
    now: int,
) -> Proposed:
    """Propose it, or approve the same proposal of another approver.

    It is carried out at once where no other approver is needed.
    """
    expire_proposals(tx, now)
    refusal = not_an_approver(tx.policy, approver.name)
    proposal = find_same_proposal(tx, kind, terms)
    made = proposal or _new(kind, terms, approver.name, reason, tx.policy, now)
    refusal = refusal or _not_carried_out(tx, made)
    if refusal is not None:
        return Proposed(made, refusal)
    if proposal is None and made.required == 1:
        _carry_out(tx, made, [approver.name], now)
        done = replace(made, status=ProposalStatus.APPROVED, approved_by=(approver.name,))
        return Proposed(done)
    if proposal is None:
        insert_proposal(tx, made, now)
    return _approve(tx, made, approver, now)


def approve_proposal(tx: Tx, proposal_id: str, approver: Approver, *, now: int) -> Proposed:
    """Record one approver's yes under the policy in force; the last one needed carries it out."""
    expire_proposals(tx, now)
    proposal = read_proposal(tx, proposal_id)
    refusal = may_not_decide_proposal(tx.policy, proposal, approver.name)
    if refusal is not None:
        return Proposed(proposal, refusal)
    return _approve(tx, proposal, approver, now)


def reject_proposal(
    tx: Tx, proposal_id: str, approver: Approver, *, reason: str, now: int
) -> Proposed:
    """Reject it in one approver's name."""
    expire_proposals(tx, now)
    proposal = read_proposal(tx, proposal_id)
    refusal = may_not_decide_proposal(tx.policy, proposal, approver.name)
    if refusal is not None:
        return Proposed(proposal, refusal)
    said = {"approver": approver.name, "host": approver.host, "user": approver.user}
    end_proposal(tx, proposal_id, ProposalStatus.REJECTED, now, why=reason, **said)
    return Proposed(read_proposal(tx, proposal_id))


def _approve(tx: Tx, proposal: Proposal, approver: Approver, now: int) -> Proposed:
    refusal = _not_carried_out(tx, proposal)
    if refusal is not None:
        return Proposed(proposal, refusal)
    said = {"approver": approver.name, "host": approver.host, "user": approver.user}
    tx.record(now, "proposal_approved_by", proposal.id, **said)
    proposal, policy = read_proposal(tx, proposal.id), tx.policy
    able = [one for one in proposal.approved_by if not_an_approver(policy, one) is None]
    if len(able) < max(proposal.required, _required(policy, proposal.kind, proposal.terms)):
        tx.notify([proposal_waits(proposal, now)])
        return Proposed(proposal, proposal.waiting())
    end_proposal(tx, proposal.id, ProposalStatus.APPROVED, now, approved_by=able)
    _carry_out(tx, proposal, able, now)
    return Proposed(read_proposal(tx, proposal.id))


def _carry_out(tx: Tx, proposal: Proposal, able: Sequence[str], now: int) -> None:
    terms, by = proposal.terms, ", ".join(able)
    agreed: dict[str, Any] = {"approved_by": list(able), "required": proposal.required}
    if proposal.kind is ProposalKind.WITHDRAW:
        insert_order(
            tx,
            "withdraw",
            order_id=proposal.id,
            recipient=terms["recipient"],
            amount=Usdc.from_base_units(terms["amount"]),
            by=proposal.by,
            reason=proposal.reason,
            now=now,
            **agreed,
        )
    elif proposal.kind is ProposalKind.SETTLE:
        order_settle(tx, terms["purchase_id"], by=by, now=now, **agreed)
    else:
        kind, of = terms["scope_kind"], terms["scope_id"]
        lift_pause(tx, kind, of, proposal.reason, by=by, now=now, **agreed)


def _new(
    kind: ProposalKind, terms: Mapping[str, Any], by: str, reason: str, policy: Policy, now: int
) -> Proposal:
    return Proposal(
        id=PREFIXES[kind] + secrets.token_hex(10),
        kind=kind,
        terms=terms,
        by=by,
        reason=reason,
        status=ProposalStatus.AWAITING_APPROVAL,
        required=_required(policy, kind, terms),
        approved_by=(),
        created_at=now,
        expires_at=now + policy.approvals.expires_after,
    )


def _required(policy: Policy, kind: ProposalKind, terms: Mapping[str, Any]) -> int:
    """Return the number of approvals needed, by amount, or for an unpause by its own rule."""
    if kind is ProposalKind.UNPAUSE:
        return policy.approvals.required
    return policy.approvals.required_for(Usdc.from_base_units(terms["amount"]))


def _not_carried_out(tx: Tx, proposal: Proposal) -> Reason | None:
    """Return the reason why it can't be carried out any more."""
    if proposal.kind is not ProposalKind.SETTLE:
        return None
    return may_not_settle(read_purchase(tx, proposal.terms["purchase_id"]).status)
