"""A purchase moves only as the one table says, and shows itself with stable names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from coordinator.domain.chain.events import EMPTY, EscrowState
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.limits.limits import Limit, LimitState, Scope, ScopeKind, Usage, Window
from coordinator.domain.purchase.lifecycle import (
    ESCROWED,
    FINAL,
    MOVES,
    OPEN,
    STATUS_OF,
    UNFUNDED,
    Status,
    check_move,
)
from coordinator.domain.purchase.purchase import ApprovalDecision, Purchase, PurchaseTransaction
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc

S = Status


def test_the_table_speaks_of_every_status_and_of_no_other() -> None:
    assert set(MOVES) == set(Status)
    assert {after for moves in MOVES.values() for after in moves} <= set(Status)


def test_nothing_leaves_a_final_status() -> None:
    assert {S.DENIED, S.REJECTED, S.EXPIRED, S.SETTLED, S.CANCELLED, S.FAILED} == FINAL
    assert all(not MOVES[status] for status in FINAL)
    assert all(MOVES[status] for status in OPEN)
    assert set(Status) == FINAL | OPEN


def test_every_open_purchase_can_come_to_an_end() -> None:
    for status in OPEN:
        reached, new = {status}, {status}
        while new:
            new = {after for before in new for after in MOVES[before]} - reached
            reached |= new
        assert reached & FINAL, status


def test_no_purchase_comes_back_to_a_status_it_left_but_to_its_approvers() -> None:
    def walk(status: Status, seen: tuple[Status, ...]) -> None:
        assert status not in seen
        for after in MOVES[status]:
            if (status, after) != (S.APPROVED, S.AWAITING_APPROVAL):
                walk(after, (*seen, status))

    for status in Status:
        walk(status, ())


@pytest.mark.parametrize(
    "life",
    [
        [S.AWAITING_APPROVAL, S.REJECTED],
        [S.AWAITING_APPROVAL, S.EXPIRED],
        [S.AWAITING_APPROVAL, S.CANCELLED],
        [S.APPROVED, S.FAILED],
        [S.APPROVED, S.CANCELLED],
        [S.AWAITING_APPROVAL, S.APPROVED, S.CREATED, S.CANCELLED],
        [S.APPROVED, S.CREATED, S.FUNDED, S.CANCELLED],
        [S.APPROVED, S.CREATED, S.FUNDED, S.STARTED, S.CANCELLED],
        [S.APPROVED, S.CREATED, S.FUNDED, S.STARTED, S.DELIVERED, S.SETTLED],
        [S.DELIVERED, S.DISPUTED, S.SETTLED],
        [S.DELIVERED, S.DISPUTED, S.CANCELLED],
    ],
    ids=lambda life: "-".join(life),
)
def test_every_life_that_the_design_draws_is_allowed(life: list[Status]) -> None:
    for before, after in pairwise(life):
        check_move("pur_1", before, after)


@pytest.mark.parametrize("before", Status)
def test_every_move_outside_the_table_is_an_impossible_state(before: Status) -> None:
    for after in set(Status) - MOVES[before]:
        with pytest.raises(ImpossibleState, match=f"pur_1 can't go from {before} to {after}"):
            check_move("pur_1", before, after)


@pytest.mark.parametrize("before", sorted(ESCROWED))
def test_what_was_funded_never_fails_expires_or_is_denied(before: Status) -> None:
    assert not MOVES[before] & {S.FAILED, S.EXPIRED, S.REJECTED, S.DENIED}


def test_only_an_approval_leads_from_waiting_to_the_chain() -> None:
    assert MOVES[S.AWAITING_APPROVAL] & OPEN == {S.APPROVED}


@pytest.mark.parametrize("status", sorted(UNFUNDED))
def test_what_is_not_funded_can_be_cancelled(status: Status) -> None:
    assert S.CANCELLED in MOVES[status]


# What the kernel allows, from one state of an escrow to the next.
KERNEL = {
    EscrowState.CREATED: {EscrowState.QUOTED, EscrowState.FUNDED, EscrowState.CANCELLED},
    EscrowState.QUOTED: {EscrowState.FUNDED, EscrowState.CANCELLED},
    EscrowState.FUNDED: {EscrowState.STARTED, EscrowState.CANCELLED},
    EscrowState.STARTED: {EscrowState.DELIVERED, EscrowState.CANCELLED},
    EscrowState.DELIVERED: {EscrowState.SETTLED, EscrowState.DISPUTED},
    EscrowState.DISPUTED: {EscrowState.SETTLED, EscrowState.CANCELLED},
    EscrowState.SETTLED: set(),
    EscrowState.CANCELLED: set(),
}


@pytest.mark.parametrize("before", EscrowState)
def test_a_purchase_can_follow_its_escrow_wherever_the_kernel_lets_it_go(
    before: EscrowState,
) -> None:
    for after in KERNEL[before]:
        if STATUS_OF[before] is not STATUS_OF[after]:
            check_move("pur_1", STATUS_OF[before], STATUS_OF[after])
    assert (not KERNEL[before]) == (STATUS_OF[before] in FINAL)
    assert (before in EMPTY) == (STATUS_OF[before] is S.CREATED)


def purchase(**changed: Any) -> Purchase:
    values: dict[str, Any] = {
        "id": "pur_1",
        "status": S.SETTLED,
        "agent": "research-agent",
        "provider": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "provider_name": "paper-api",
        "amount": Usdc("25"),
        "purpose": "papers",
        "service": "papers",
        "category": "api",
        "task": None,
        "session": None,
        "idempotency_key": "key",
        "escrow_key": "0x" + "11" * 32,
        "escrow_id": "0x" + "22" * 32,
        "approval_id": None,
        "created_at": 1_777_636_800,
        "updated_at": 1_777_636_860,
        "deadline": None,
        "window_ends": None,
        "settle": "after_window",
        "policy_hash": "ab" * 32,
        "reason": None,
    }
    return Purchase(**{**values, **changed})


@pytest.mark.parametrize("status", Status)
def test_a_purchase_says_in_one_word_where_it_is(status: Status) -> None:
    one = purchase(status=status)
    assert one.ok == (status in {S.FUNDED, S.STARTED, S.DELIVERED, S.DISPUTED, S.SETTLED})
    assert one.denied == (status is S.DENIED)
    assert one.needs_approval == (status is S.AWAITING_APPROVAL)
    assert one.final == (status in FINAL)


def test_spent_is_what_left_and_did_not_come_back_once_it_is_final() -> None:
    money = {"paid_in": Usdc("25"), "refunded": Usdc("23.75")}
    assert purchase(status=S.CANCELLED, **money).spent == Usdc("1.25")
    assert purchase(status=S.SETTLED, paid_in=Usdc("25")).spent == Usdc("25")
    assert purchase(status=S.FUNDED, paid_in=Usdc("25")).spent == ZERO


def test_the_gas_of_a_purchase_is_that_of_all_its_transactions() -> None:
    sent = [
        PurchaseTransaction("create", "0x1", 1, 100, 7, "mined", "url"),
        PurchaseTransaction("link", "0x2", 1, 100, 8, "reverted", "url"),
        PurchaseTransaction("link", "0x3", None, None, 0, "signed", "url"),
    ]
    assert purchase(transactions=tuple(sent)).gas_wei == 15


def test_the_json_of_a_purchase_has_every_documented_key() -> None:
    limit = Limit(Scope(ScopeKind.AGENT, "research-agent"), Window.DAILY, Usdc("300"))
    state = LimitState(limit, Usage.of(Usdc("30"), Usdc("20")), 1_777_680_000, False)
    one = purchase(
        status=S.CANCELLED,
        paid_in=Usdc("25"),
        refunded=Usdc("23.75"),
        penalty=Usdc("1.20"),
        platform_fee=Usdc("0.05"),
        deadline=1_777_723_200,
        reason=Reason(ReasonCode.CANCELLED, "why"),
        limits=(state,),
        approvals=(ApprovalDecision("alice", "approved", None, 1_777_636_800, "host", "user"),),
        transactions=(PurchaseTransaction("create", "0x1", 5, 100, 7, "mined", "url"),),
    ).as_dict()
    assert (
        one
        | {
            "purchase_id": "pur_1",
            "status": "cancelled",
            "amount": "25.00",
            "spent": "1.25",
            "refunded": "23.75",
            "penalty": "1.20",
            "platform_fee": "0.05",
            "provider_received": "0.00",
            "gas_wei": 7,
            "created_at": "2026-05-01T12:00:00Z",
            "updated_at": "2026-05-01T12:01:00Z",
            "deadline": "2026-05-02T12:00:00Z",
            "reason": {"code": "cancelled", "message": "why"},
            "limits": [
                {
                    "scope": "agent:research-agent",
                    "window": "daily",
                    "limit": "300.00",
                    "spent": "20.00",
                    "held": "30.00",
                    "remaining": "250.00",
                    "resets_at": "2026-05-02T00:00:00Z",
                    "broken": False,
                }
            ],
            "approvals": [
                {
                    "approver": "alice",
                    "decision": "approved",
                    "reason": None,
                    "at": "2026-05-01T12:00:00Z",
                }
            ],
            "transactions": [
                {
                    "step": "create",
                    "hash": "0x1",
                    "block": 5,
                    "gas_used": 100,
                    "status": "mined",
                    "url": "url",
                }
            ],
        }
        == one
    )
    documented = (
        "purchase_id status agent provider provider_name amount purpose service category task"
        " session idempotency_key escrow_id approval_id created_at updated_at deadline settle"
        " policy_hash approvals reason limits spent provider_received platform_fee penalty"
        " refunded gas_wei transactions"
    )
    assert set(documented.split()) <= set(one)


def test_a_time_that_is_not_known_is_null() -> None:
    assert rfc3339(None) is None
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
