"""What one approver proposes takes as many as a purchase of that amount, on both databases."""

from __future__ import annotations

import pytest

from coordinator import Usdc
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.policy.approvals import Approver, Tier
from coordinator.domain.purchase.proposal import ProposalStatus
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either
PAYEE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def pair(world: World) -> World:
    """A treasury where two have to agree, and above 100 USDC three."""
    asked = world.policy.approvals.model_copy(
        update={
            "required": 2,
            "approvers": {name: Approver() for name in ("alice", "bob", "carol", "dora")},
            "tiers": [Tier(above=Usdc("100"), required=3)],
        }
    )
    world.apply(world.policy.model_copy(update={"approvals": asked}))
    world.round()
    return world


def withdraw(world: World, amount: str = "10", approver: str = "alice") -> str:
    order = world.wiring.treasury.withdraw(
        to=PAYEE, amount=amount, approver=approver, reason="payday"
    )
    return order.id


def paid(world: World) -> Usdc:
    world.go()
    return world.chain.balance(PAYEE)


def delivered(world: World) -> Purchase:
    waiting = world.buy("60.00")
    for name in ("alice", "bob"):
        assert world.coordinator.approve(waiting.approval_id or "", approver=name).done
    world.go()
    world.chain.deliver(world.get(waiting).escrow_id)
    world.go()
    assert world.status(waiting) == "delivered"
    return waiting


# How many it takes.


def test_one_approver_of_two_withdraws_nothing(pair: World) -> None:
    before = paid(pair)
    order = pair.wiring.treasury.withdraw(to=PAYEE, amount="10", approver="alice", reason="x")

    assert order.status == "awaiting_approval"
    assert paid(pair) == before
    (proposal,) = pair.coordinator.proposals()
    assert (proposal.id, proposal.approved_by, proposal.required) == (order.id, ("alice",), 2)
    told = next(kept.notice for kept in pair.coordinator.alerts(kind="approval_waits"))
    assert (told.fields["approval_id"], told.fields["amount"]) == (order.id, "10.00")
    assert told.fields["recipient"] == PAYEE


def test_the_last_yes_pays_once(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)

    done, refusal = pair.coordinator.approve_proposal(order, approver="bob")

    assert (done.status, refusal) == (ProposalStatus.APPROVED, None)
    assert paid(pair) - before == Usdc("10")
    _again, refusal = pair.coordinator.approve_proposal(order, approver="carol")
    assert refusal is not None and refusal.code == "approval_not_found"
    assert paid(pair) - before == Usdc("10")
    pair.check_books()


def test_the_same_proposal_of_another_approver_is_a_yes_to_it(pair: World) -> None:
    before, first = paid(pair), withdraw(pair, approver="alice")
    assert withdraw(pair, approver="bob") == first
    assert paid(pair) - before == Usdc("10")


def test_an_amount_above_a_tier_takes_as_many_as_a_purchase_of_it(pair: World) -> None:
    before, order = paid(pair), withdraw(pair, "100.01")
    _, refusal = pair.coordinator.approve_proposal(order, approver="bob")
    assert refusal is not None and refusal.code == "more_approvals_required"
    assert paid(pair) == before
    pair.coordinator.approve_proposal(order, approver="carol")
    assert paid(pair) - before == Usdc("100.01")


def test_nobody_counts_twice(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    for _ in range(3):
        _, refusal = pair.coordinator.approve_proposal(order, approver="alice")
        assert refusal is not None and refusal.code == "more_approvals_required"
    assert withdraw(pair, approver="alice") == order
    assert paid(pair) == before


def test_an_approver_that_was_removed_counts_no_more(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    approvals = pair.policy.approvals
    left = {name: one for name, one in approvals.approvers.items() if name != "alice"}
    update = {"approvals": approvals.model_copy(update={"approvers": left})}
    pair.apply(pair.policy.model_copy(update=update))

    _, refusal = pair.coordinator.approve_proposal(order, approver="bob")

    assert refusal is not None and refusal.code == "more_approvals_required"
    assert paid(pair) == before
    pair.coordinator.approve_proposal(order, approver="carol")
    assert paid(pair) - before == Usdc("10")


def test_a_number_that_was_raised_meanwhile_is_asked(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    update = {"approvals": pair.policy.approvals.model_copy(update={"required": 3})}
    pair.apply(pair.policy.model_copy(update=update))
    _, refusal = pair.coordinator.approve_proposal(order, approver="bob")
    assert refusal is not None and refusal.code == "more_approvals_required"
    assert paid(pair) == before


@pytest.mark.parametrize("name", ["mallory", AGENT])
def test_who_is_no_approver_neither_proposes_nor_approves(pair: World, name: str) -> None:
    order = withdraw(pair)
    _, refusal = pair.coordinator.approve_proposal(order, approver=name)
    assert refusal is not None and refusal.code == "not_an_approver"
    assert not pair.coordinator.unpause("please", by=name)
    assert pair.coordinator.proposal(order).approved_by == ("alice",)


# How it ends otherwise.


def test_a_rejected_proposal_is_not_carried_out(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    ended, refusal = pair.coordinator.reject_proposal(order, approver="bob", reason="no")
    assert (ended.status, refusal) == (ProposalStatus.REJECTED, None)
    _, refusal = pair.coordinator.approve_proposal(order, approver="carol")
    assert refusal is not None and refusal.code == "rejected"
    assert paid(pair) == before


def test_a_proposal_expires_as_an_approval_does(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    pair.pass_time(pair.policy.approvals.expires_after)
    assert pair.coordinator.proposals() == []
    _, refusal = pair.coordinator.approve_proposal(order, approver="bob")
    assert refusal is not None and refusal.code == "approval_expired"
    assert paid(pair) == before


# Early settles and unpauses.


def test_an_early_settle_takes_as_many_as_a_purchase_of_that_amount(pair: World) -> None:
    bought = delivered(pair)

    answer = pair.coordinator.settle(bought.id, approver="alice")

    assert not answer.done
    assert answer.reason is not None and answer.reason.code == "more_approvals_required"
    pair.go()
    assert pair.status(bought) == "delivered"
    (proposal,) = pair.coordinator.proposals()
    assert pair.coordinator.approve_proposal(proposal.id, approver="bob")[1] is None
    pair.go()
    assert pair.status(bought) == "settled"
    pair.check_books()


def test_unpausing_takes_as_many_as_are_required(pair: World) -> None:
    assert pair.coordinator.pause("stop", by="alice")
    assert not pair.coordinator.unpause("go on", by="alice")
    assert pair.buy("1.00").denied
    assert pair.coordinator.unpause("go on", by="bob")
    assert not pair.buy("1.00").denied
    pair.check_books()


def test_pausing_and_disputing_take_one(pair: World) -> None:
    bought = delivered(pair)
    assert pair.coordinator.dispute(bought.id, approver="alice", reason="bad").done
    assert pair.coordinator.pause("stop", by="alice")
    pair.go()
    assert pair.status(bought) == "disputed"


def test_a_bond_above_its_own_limit_is_not_paid(pair: World) -> None:
    bought = delivered(pair)
    update = {"dispute_bond_limit": Usdc("1")}
    approvals = pair.policy.approvals.model_copy(update=update)
    pair.apply(pair.policy.model_copy(update={"approvals": approvals}))
    answer = pair.coordinator.dispute(bought.id, approver="alice", reason="bad")
    assert not answer.done
    assert answer.reason is not None and "dispute_bond_limit" in answer.reason.message
    pair.go()
    assert pair.status(bought) == "delivered"


# Rows that somebody else wrote.


def forge_order(world: World, **changes: str | int) -> None:
    world.edit(
        "INSERT INTO orders (id, kind, recipient, amount, by, reason, status, created_at)"
        " VALUES ('wdr_x', 'withdraw', ?, 500000000, 'alice', 'x', 'approved', ?)",
        PAYEE,
        world.clock(),
    )


def check_not_paid(world: World, before: Usdc) -> None:
    for _ in range(4):
        world.round()
        world.chain.mine()
    assert world.chain.balance(PAYEE) == before
    (pause,) = world.wiring.operations.pauses()
    assert "changed outside this program" in pause.reason
    assert verify(world.wiring.audit).faults
    assert all(order.status != "approved" for order in world.wiring.operations.orders())


def test_an_order_that_nobody_gave_is_not_paid(pair: World) -> None:
    before = paid(pair)
    forge_order(pair)
    check_not_paid(pair, before)


@pytest.mark.parametrize("column", ["recipient", "amount"])
def test_an_order_that_was_edited_is_not_paid(pair: World, column: str) -> None:
    before, order = paid(pair), withdraw(pair)
    pair.coordinator.approve_proposal(order, approver="bob")
    value = {"recipient": PAYEE.lower(), "amount": 500_000_000}[column]
    pair.edit(f"UPDATE orders SET {column} = ?", value)
    check_not_paid(pair, before)


def test_a_paid_order_is_not_paid_again(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    pair.coordinator.approve_proposal(order, approver="bob")
    after = paid(pair)
    assert after - before == Usdc("10")
    pair.edit("UPDATE steps SET reference = NULL")
    pair.edit("UPDATE orders SET status = 'approved'")
    check_not_paid(pair, after)


def test_a_paid_order_whose_signing_was_cut_out_of_the_log_is_not_paid_again(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    pair.coordinator.approve_proposal(order, approver="bob")
    after = paid(pair)
    assert after - before == Usdc("10")
    pair.fund("1.00")
    pair.edit("UPDATE steps SET reference = NULL")
    pair.edit("UPDATE orders SET status = 'approved'")
    pair.edit("DELETE FROM journal WHERE kind = 'outflow'")
    pair.edit(
        "DELETE FROM audit WHERE subject = ? AND event IN"
        " ('withdraw_signed', 'withdraw_mined', 'order_done')",
        order,
    )
    for _ in range(4):
        pair.round()
        pair.chain.mine()
    assert pair.chain.balance(PAYEE) == after
    assert all(order.status == "failed" for order in pair.wiring.operations.orders())


def test_a_yes_written_into_the_proposal_decides_nothing(pair: World) -> None:
    before, order = paid(pair), withdraw(pair)
    pair.edit("UPDATE proposals SET status = 'approved' WHERE id = ?", order)
    with pytest.raises(LedgerTampered, match=f"proposal {order}"):
        pair.coordinator.approve_proposal(order, approver="bob")
    assert paid(pair) == before
