"""Dispute a delivered purchase within its window."""

from __future__ import annotations

from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.lifecycle import Status, may_not_dispute
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.statements.making import dispute_statement
from coordinator.domain.statements.signed import SigningRequest
from coordinator.domain.statements.statement import Statement
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.bonds import hold_bond
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.words import UNSIGNED, Word, refuse_word, signing_request
from coordinator.ledger.tx.transaction import Tx


def dispute(
    tx: Tx,
    purchase_id: str,
    *,
    approver: str,
    reason: str,
    bond: Usdc,
    now: int,
    word: Word = UNSIGNED,
) -> Answer:
    """Hold the bond for the organisation; the executor posts it with the dispute.

    One approver is enough; a bond above the policy's ``dispute_bond_limit`` is refused.
    """
    purchase = read_purchase(tx, purchase_id)
    refusal = not_an_approver(tx.policy, approver)
    if refusal is None and purchase.status is Status.DISPUTED:
        return Answer(True, purchase)
    window_ends = purchase.window_ends
    refusal = (
        refusal
        or may_not_dispute(purchase.status, now=now, window_ends=window_ends)
        or _above_cap(bond, tx.policy.approvals.dispute_bond_limit)
        or refuse_word(tx, _statement(tx, purchase, reason, bond), approver, word)
        or hold_bond(tx, purchase.id, bond, by=approver, why=reason, now=now, signed=word.signed)
    )
    if refusal is not None:
        return Answer(False, purchase, refusal)
    return Answer(True, read_purchase(tx, purchase.id))


def _above_cap(bond: Usdc, most: Usdc) -> Reason | None:
    if bond <= most:
        return None
    text = f"the dispute's bond is {bond} USDC, above approvals.dispute_bond_limit of {most}"
    return Reason(ReasonCode.ORGANISATION_LIMIT, text)


def dispute_request(tx: Tx, purchase_id: str, *, reason: str, bond: Usdc) -> SigningRequest:
    """Return what the approver signs who disputes it."""
    purchase = read_purchase(tx, purchase_id)
    return signing_request(tx, _statement(tx, purchase, reason, bond))


def _statement(tx: Tx, purchase: Purchase, reason: str, bond: Usdc) -> Statement:
    return dispute_statement(
        tx.policy,
        purchase_id=purchase.id,
        bond=bond,
        window_ends=purchase.window_ends or 0,
        reason=reason,
    )
