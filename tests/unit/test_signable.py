"""What of the audit log has to agree with a call before it is signed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.domain.chain.steps import Call, PaymentTerms, StepKind
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.usdc import Usdc
from coordinator.ledger.chain.call_proofs import not_decided, order_call_differences
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase

PAYEE, THIEF = "0x" + "aa" * 20, "0x" + "bb" * 20
TERMS = PaymentTerms(PAYEE, Usdc("25"))


def call(kind: StepKind, terms: PaymentTerms | None = TERMS) -> Call:
    return Call(kind=kind, to="0x", data="0x", gas_limit=1, terms=terms)


def order(**body: Any) -> LoggedOrder:
    told = {"by": "alice", "recipient": PAYEE, "amount": 25_000_000, **body}
    return LoggedOrder("wdr_1", "withdraw", told, 0)


ROW = SimpleNamespace(kind="withdraw", recipient=PAYEE, amount=25_000_000, status="approved")


def of_order(past: LoggedOrder, terms: PaymentTerms | None = TERMS, row: Any = ROW) -> list[str]:
    return list(order_call_differences(call(StepKind.WITHDRAW, terms), row, past))


def test_an_order_that_its_approvers_ordered_is_signed() -> None:
    assert of_order(order()) == []
    assert of_order(order(required=2, approved_by=["alice", "bob"])) == []


@pytest.mark.parametrize("approved_by", [["alice"], ["alice", "alice"], []])
def test_an_order_with_fewer_approvals_than_it_needs_is_not(approved_by: list[str]) -> None:
    (wrong,) = of_order(order(required=2, approved_by=approved_by))
    assert "fewer approvals" in wrong


def test_an_order_that_was_signed_is_not_signed_again() -> None:
    past = order()
    past.signed = True
    (wrong,) = of_order(past)
    assert "signed before" in wrong


def test_a_withdrawal_is_made_from_what_was_ordered() -> None:
    for terms in (PaymentTerms(THIEF, TERMS.amount), PaymentTerms(PAYEE, Usdc("26"))):
        (wrong,) = of_order(order(), terms)
        assert "was made from" in wrong
    (wrong,) = of_order(order(), row=SimpleNamespace(**{**vars(ROW), "recipient": THIEF}))
    assert "recipient" in wrong


def purchase(*approvers: str, required: int = 1) -> LoggedPurchase:
    return LoggedPurchase(
        id="pur_1",
        asked_at=0,
        provider=PAYEE,
        amount=25_000_000,
        settle="manual",
        policy="",
        status=Status.APPROVED,
        updated_at=0,
        placed_at=0,
        agent="ada",
        approval={"required": required},
        decisions={who: {"decision": "approved"} for who in approvers},
    )


@pytest.mark.parametrize(
    ("approvers", "required", "signed"),
    [
        (("alice",), 1, True),
        (("alice", "bob"), 2, True),
        (("ada",), 1, False),
        (("ada", "alice"), 2, False),
        (("alice",), 2, False),
        ((), 1, False),
    ],
)
def test_a_purchase_takes_the_approvals_of_others_than_its_agent(
    approvers: tuple[str, ...], required: int, signed: bool
) -> None:
    wrong = list(not_decided(call(StepKind.CREATE), purchase(*approvers, required=required)))
    assert (wrong == []) is signed, wrong


def test_no_escrow_is_made_for_the_payment_of_an_http_request() -> None:
    past = purchase("alice")
    past.x402 = {"host": "papers.example"}
    (wrong,) = not_decided(call(StepKind.CREATE), past)
    assert "and no escrow" in wrong


def test_an_order_is_carried_out_by_the_call_of_its_kind() -> None:
    (wrong,) = order_call_differences(call(StepKind.TOP_UP), ROW, order())
    assert wrong == "its call is a top_up; the audit log says withdraw"


def test_a_refusal_is_no_approval() -> None:
    past = purchase("alice")
    past.decisions["alice"]["decision"] = "rejected"
    assert list(not_decided(call(StepKind.CREATE), past))


def test_a_create_is_made_from_what_was_decided() -> None:
    for terms in (PaymentTerms(THIEF, TERMS.amount), PaymentTerms(PAYEE, Usdc("26"))):
        (wrong,) = not_decided(call(StepKind.CREATE, terms), purchase("alice"))
        assert "was made from" in wrong
