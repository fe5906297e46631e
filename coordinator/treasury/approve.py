"""Approve or reject a purchase that waits for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coordinator.domain.approval_notices import approval_decided
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import (
    Approver,
    JudgedApproval,
    PendingApproval,
    approved_names,
)
from coordinator.domain.purchase.deciding import may_not_decide_purchase, waits_no_more
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.statements.making import purchase_statement
from coordinator.domain.statements.statement import Statement
from coordinator.ledger.proofs.evidence import Evidence
from coordinator.ledger.spend.approvals import (
    agreement,
    check_proved,
    read_approval,
    record_decision,
    release,
)
from coordinator.ledger.spend.moves import approval_fields, end_unsigned, expire
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.words import UNSIGNED, Word, refuse_shared, refuse_word
from coordinator.ledger.tx.transaction import Tx
from coordinator.treasury.judge import Judge


def approve(
    tx: Tx,
    approval_id: str,
    approver: Approver,
    *,
    judge: Judge,
    evidence: Evidence,
    now: int,
    word: Word = UNSIGNED,
) -> Answer:
    """Record one person's yes; the last one needed judges again and moves the hold to ``now``.

    Not done, with the reason and nothing changed, when the person may not decide, has to sign and
    did not, it is too late, or it does not fit any more. LedgerTampered when the audit log tells
    of other terms.
    """
    expire(tx, now)
    approval, purchase = read_approval(tx, approval_id)
    refusal = may_not_decide_purchase(
        tx.policy, purchase, approver.name, expires_at=approval.expires_at
    )
    if refusal is not None:
        return Answer(False, purchase, refusal)
    check_proved(tx, evidence, approval)
    statement = statement_of(tx.policy, purchase, approval.expires_at)
    refusal = refuse_word(tx, statement, approver.name, word)
    if refusal is None and word.signed is not None:
        said = evidence.purchase(tx.connection, purchase.id).decisions
        refusal = refuse_shared(said, approver.name, word.signed)
    if refusal is not None:
        return Answer(False, purchase, refusal)
    decision = judge.decide(tx, _request_of(purchase), now, own=purchase)
    if decision.outcome is Status.DENIED:
        return Answer(False, purchase, decision.reason)
    record_decision(tx, approval, approver, "approved", now, signed=word.signed)
    if agreement(tx, evidence, purchase.id).met:
        release(tx, purchase, decision, now)
        names = approved_names(read_purchase(tx, purchase.id))
        _tell_decided(tx, approval, purchase, "approved", names, now)
    return Answer(True, read_purchase(tx, purchase.id))


def reject(
    tx: Tx,
    approval_id: str,
    approver: Approver,
    *,
    reason: str,
    evidence: Evidence,
    now: int,
    word: Word = UNSIGNED,
) -> Answer:
    """Reject it in one person's name; the hold is voided.

    LedgerTampered when it was signed and the audit log tells of other terms.
    """
    expire(tx, now)
    approval, purchase = read_approval(tx, approval_id)
    refusal = may_not_decide_purchase(
        tx.policy, purchase, approver.name, expires_at=approval.expires_at
    )
    if refusal is not None:
        return Answer(False, purchase, refusal)
    if word.signed is not None:
        check_proved(tx, evidence, approval)
    statement = statement_of(tx.policy, purchase, approval.expires_at, reason=reason)
    refusal = refuse_word(tx, statement, approver.name, word)
    if refusal is not None:
        return Answer(False, purchase, refusal)
    record_decision(tx, approval, approver, "rejected", now, reason=reason, signed=word.signed)
    why = Reason(ReasonCode.REJECTED, f"{approver.name} rejected it: {reason}")
    end_unsigned(tx, purchase, Status.REJECTED, why, now)
    _tell_decided(tx, approval, purchase, "rejected", [approver.name], now)
    return Answer(True, read_purchase(tx, purchase.id))


def statement_of(
    policy: Policy, purchase: Purchase, expires_at: int, *, reason: str | None = None
) -> Statement:
    """Return what approvers of the purchase sign; with a ``reason`` they reject it."""
    return purchase_statement(
        policy,
        approval_id=purchase.approval_id or "",
        agent=purchase.agent or "",
        provider=purchase.provider,
        amount=purchase.amount,
        service=purchase.service,
        settle=purchase.settle,
        host=purchase.x402.host if purchase.x402 is not None else None,
        expires_at=expires_at,
        reason=reason,
    )


def judge_approval(
    tx: Tx, approval_id: str, approver: str | None, *, judge: Judge, now: int
) -> JudgedApproval:
    """Judge as ``approve`` would at ``now``, in anybody's or one approver's name.

    Nothing is written. UnknownId when there is no such approval.
    """
    row, purchase = read_approval(tx, approval_id)
    if purchase.needs_approval and row.expires_at <= now:
        purchase = replace(purchase, status=Status.EXPIRED)
    misfits: tuple[Reason, ...] = ()
    limits: tuple[LimitState, ...] = purchase.limits
    undecidable = waits_no_more(purchase, expires_at=row.expires_at)
    if approver is not None:
        undecidable = may_not_decide_purchase(
            tx.policy, purchase, approver, expires_at=row.expires_at
        )
    if purchase.needs_approval:
        decision = judge.decide(tx, _request_of(purchase), now, own=purchase)
        limits = decision.limits
        if decision.outcome is Status.DENIED:
            misfits = decision.reasons
    approval = PendingApproval(row.id, purchase, row.required, row.created_at, row.expires_at)
    return JudgedApproval(approval, limits, undecidable, misfits)


def _tell_decided(
    tx: Tx, approval: Any, purchase: Purchase, decision: str, approvers: Sequence[str], now: int
) -> None:
    fields = approval_fields(approval.id, purchase, approval.expires_at)
    tx.notify([approval_decided(fields, decision, [*approvers], now)])


def _request_of(purchase: Purchase) -> Request:
    assert purchase.agent is not None
    return Request(
        agent=purchase.agent,
        # By address: a name may have been given to somebody else meanwhile.
        provider=purchase.provider,
        amount=purchase.amount,
        purpose=purchase.purpose,
        service=purchase.service,
        category=purchase.category,
        task=purchase.task,
        session=purchase.session,
        host=purchase.x402.host if purchase.x402 is not None else None,
    )
