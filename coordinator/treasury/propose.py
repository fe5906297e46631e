"""Propose, approve and reject withdrawals, early settles and unpauses.

It is carried out in the transaction that counts the last yes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.domain.approval_notices import proposal_waits
from coordinator.domain.policy.delays import change_delay, delayed_changes
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import Approver
from coordinator.domain.purchase.deciding import may_not_decide_proposal, not_an_approver, overtaken
from coordinator.domain.purchase.lifecycle import may_not_settle
from coordinator.domain.purchase.proposal import PREFIXES, Proposal, ProposalKind, ProposalStatus
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.statements.making import proposal_quorum, proposal_statement
from coordinator.domain.statements.recovery import RECOVERY_SECONDS, recovery_refused
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.agreement import proposal_agreement
from coordinator.ledger.spend.moves import order_settle
from coordinator.ledger.spend.proposals import (
    end_proposal,
    expire_proposals,
    find_same_proposal,
    insert_proposal,
    read_logged,
    read_proposal,
    waiting_ids,
)
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.words import UNSIGNED, Word, refuse_shared, refuse_word
from coordinator.ledger.tx.activation import activate_policy
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
    made = proposal or new_proposal(kind, terms, approver.name, reason, tx.policy, now)
    refusal = refusal or _not_carried_out(tx, made)
    if refusal is not None:
        return Proposed(made, refusal)
    approvals = tx.policy.approvals
    signs = approvals.has_to_sign(approver.name)
    alone = not (signs or approvals.four_eyes or proposal_quorum(tx.policy, made).from_each)
    if proposal is None and made.required == 1 and alone:
        _carry_out(tx, made, [approver.name], now, logged=False)
        done = replace(made, status=ProposalStatus.APPROVED, approved_by=(approver.name,))
        return Proposed(done)
    if proposal is None:
        insert_proposal(tx, made, now)
    if signs or approvals.four_eyes:
        # The id is in what they sign, and whoever proposes is not who approves.
        tx.notify([proposal_waits(made, now)])
        return Proposed(made, made.waiting())
    return _approve(tx, made, approver, now)


def approve_proposal(
    tx: Tx, proposal_id: str, approver: Approver, *, now: int, word: Word = UNSIGNED
) -> Proposed:
    """Record one approver's yes under the policy in force; the last one needed carries it out."""
    expire_proposals(tx, now)
    proposal = read_proposal(tx, proposal_id)
    refusal = may_not_decide_proposal(tx.policy, proposal, approver.name)
    if refusal is not None:
        return Proposed(proposal, refusal)
    return _approve(tx, proposal, approver, now, word)


def reject_proposal(
    tx: Tx,
    proposal_id: str,
    approver: Approver,
    *,
    reason: str,
    now: int,
    word: Word = UNSIGNED,
) -> Proposed:
    """Reject it in one approver's name."""
    expire_proposals(tx, now)
    proposal = read_proposal(tx, proposal_id)
    statement = proposal_statement(tx.policy, proposal, reason=reason)
    refusal = may_not_decide_proposal(tx.policy, proposal, approver.name) or refuse_word(
        tx, statement, approver.name, word
    )
    if refusal is not None:
        return Proposed(proposal, refusal)
    end_proposal(
        tx,
        proposal_id,
        ProposalStatus.REJECTED,
        now,
        why=reason,
        **_decision_fields(approver, word),
    )
    return Proposed(read_proposal(tx, proposal_id))


def _approve(
    tx: Tx, proposal: Proposal, approver: Approver, now: int, word: Word = UNSIGNED
) -> Proposed:
    statement = proposal_statement(tx.policy, proposal)
    refusal = _not_carried_out(tx, proposal) or refuse_word(tx, statement, approver.name, word)
    if refusal is None and word.signed is not None:
        said = read_logged(tx, proposal.id).decisions
        refusal = refuse_shared(said, approver.name, word.signed)
    if refusal is None and tx.policy.approvals.four_eyes and approver.name == proposal.by:
        text = f"{approver.name} proposed it: somebody else has to approve it"
        refusal = Reason(ReasonCode.NOT_AN_APPROVER, text)
    if refusal is not None:
        return Proposed(proposal, refusal)
    tx.record(now, "proposal_approved_by", proposal.id, **_decision_fields(approver, word))
    logged = read_logged(tx, proposal.id)
    proposal, policy = logged.proposal, tx.policy
    agreed = proposal_agreement(policy, proposal, logged.decisions, tx.trust)
    if not agreed.met:
        tx.notify([proposal_waits(proposal, now)])
        return Proposed(proposal, proposal.waiting())
    if (early := _too_early(tx, proposal, now)) is not None:
        return Proposed(proposal, early)
    end_proposal(tx, proposal.id, ProposalStatus.APPROVED, now, approved_by=list(agreed.names))
    _carry_out(tx, proposal, agreed.names, now)
    return Proposed(read_proposal(tx, proposal.id))


def carry_out_due(tx: Tx, now: int) -> None:
    """Put drafts in force that were signed by enough approvers and whose delay is over."""
    expire_proposals(tx, now)
    for proposal_id in waiting_ids(tx, ProposalKind.POLICY):
        logged = read_logged(tx, proposal_id)
        proposal = logged.proposal
        agreed = proposal_agreement(tx.policy, proposal, logged.decisions, tx.trust)
        waits = _too_early(tx, proposal, now) or _not_carried_out(tx, proposal)
        names = agreed.names if agreed.met else _recovered_by(tx, proposal)
        if names and waits is None:
            end_proposal(tx, proposal_id, ProposalStatus.APPROVED, now, approved_by=list(names))
            _carry_out(tx, proposal, names, now)


def _recovered_by(tx: Tx, proposal: Proposal) -> Sequence[str]:
    """Return who recovers the policy with the treasury's key; nobody where that has not signed."""
    terms, trust = proposal.terms, tx.trust
    if "recovery" not in terms or trust is None:
        return ()
    refused = recovery_refused(
        trust,
        id_=proposal.id,
        policy=terms["hash"],
        replaces=terms["before"],
        begun_at=proposal.created_at,
        signature=terms["recovery"],
    )
    return () if refused is not None else (proposal.by,)


def _too_early(tx: Tx, proposal: Proposal, now: int) -> Reason | None:
    """Say from when on a draft that enough approvers signed takes effect."""
    if proposal.kind is not ProposalKind.POLICY:
        return None
    draft, trust = Policy.from_dict(proposal.terms["document"]), tx.trust
    late = next(delayed_changes(tx.policy, draft), None)
    delay = change_delay(tx.policy, trust.chain_id if trust is not None else 0)
    if "recovery" in proposal.terms:
        delay, late = RECOVERY_SECONDS, "the treasury's key recovers the policy"
    at = proposal.created_at + delay
    if late is None or now >= at:
        return None
    text = f"signed by enough approvers; takes effect at {rfc3339(at)}, because {late}"
    return Reason(ReasonCode.CHANGE_DELAYED, text)


def _decision_fields(approver: Approver, word: Word) -> dict[str, Any]:
    proof = {} if word.signed is None else {"signed": word.signed.as_dict()}
    return {"approver": approver.name, "host": approver.host, "user": approver.user, **proof}


def _carry_out(
    tx: Tx, proposal: Proposal, able: Sequence[str], now: int, *, logged: bool = True
) -> None:
    terms, by = proposal.terms, ", ".join(able)
    agreed: dict[str, Any] = {
        "approved_by": list(able),
        "required": proposal.required,
    }
    if logged:
        # Its rows of the log have what everybody said.
        agreed["proposal"] = proposal.id
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
    elif proposal.kind is ProposalKind.POLICY:
        activate_policy(
            tx,
            Policy.from_dict(terms["document"]),
            contracts=tx.rules.contracts,
            author=by,
            reason=proposal.reason,
            now=now,
            proposal=proposal.id,
        )
    else:
        kind, of = terms["scope_kind"], terms["scope_id"]
        lift_pause(tx, kind, of, proposal.reason, by=by, now=now, **agreed)


def new_proposal(
    kind: ProposalKind,
    terms: Mapping[str, Any],
    by: str,
    reason: str,
    policy: Policy,
    now: int,
    delay: int = 0,
) -> Proposal:
    """Return a proposal that waits for as many approvers as the policy asks for."""
    made = Proposal(
        id=PREFIXES[kind] + secrets.token_hex(10),
        kind=kind,
        terms=terms,
        by=by,
        reason=reason,
        status=ProposalStatus.AWAITING_APPROVAL,
        required=0,
        approved_by=(),
        created_at=now,
        expires_at=now + policy.approvals.expires_after + delay,
    )
    return replace(made, required=proposal_quorum(policy, made).required)


def _not_carried_out(tx: Tx, proposal: Proposal) -> Reason | None:
    """Return the reason why it can't be carried out any more."""
    if proposal.kind is not ProposalKind.SETTLE:
        return overtaken(tx.policy, proposal)
    return may_not_settle(read_purchase(tx, proposal.terms["purchase_id"]).status)
