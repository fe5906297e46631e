"""Disputes: the bond is held, comes back or is lost, and the books follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.chain.abi import token_abi
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.world import AGENT, World

pytestmark = [on_either, on_both_payers]

HOUR = 3600


def disputed(world: World, amount: str = "25.00") -> Purchase:
    purchase = world.fund(amount)
    world.chain.deliver(purchase.escrow_id)
    world.go()
    answer = world.coordinator.dispute(purchase.id, approver="alice", reason="it is empty")
    assert answer.done
    world.go()
    assert world.status(purchase) == "disputed"
    assert world.chain.state(purchase.escrow_id) is EscrowState.DISPUTED
    return world.get(purchase)


def test_a_disputes_bond_is_held_for_the_organisation_until_it_ends(world: World) -> None:
    purchase = disputed(world, "40.00")
    # 5 % of 40, above the least bond of 1.
    assert world.hold(purchase, "bond") == ("held", ZERO)
    assert world.usage() == (Usdc("42"), ZERO)
    assert world.usage("agent", AGENT) == (Usdc("40"), ZERO)
    assert world.moves()[-1] == ("bond", "2.00")
    assert world.chain.balance(world.treasury) == Usdc("958")
    world.check_books()


def test_a_dispute_won_gives_the_bond_and_the_refund_back(world: World) -> None:
    purchase = disputed(world)
    world.chain.resolve(
        purchase.escrow_id, requester="20.00", provider="5.00", provider_at_fault=True
    )
    world.go()
    settled = world.get(purchase)
    assert (settled.status, settled.spent) == ("settled", Usdc("5"))
    assert world.chain.balance(world.treasury) == Usdc("995")
    assert world.hold(purchase) == ("posted", Usdc("5"))
    assert world.hold(purchase, "bond") == ("voided", ZERO)
    assert world.usage() == world.usage("agent", AGENT) == (ZERO, Usdc("5"))
    assert world.moves()[-7:] == [
        ("fund", "25.00"),
        ("bond", "1.25"),
        ("refund", "20.00"),
        ("payout", "4.95"),
        ("fee", "0.00005"),
        ("fee", "0.04995"),
        ("bond_return", "1.25"),
    ]
    world.check_books()


def test_a_dispute_lost_posts_the_bond_as_spent(world: World) -> None:
    purchase = disputed(world)
    world.chain.resolve(
        purchase.escrow_id, requester="0.00", provider="25.00", provider_at_fault=False
    )
    world.go()
    settled = world.get(purchase)
    assert (settled.status, settled.spent) == ("settled", Usdc("25"))
    assert world.chain.balance(world.treasury) == Usdc("973.75")
    assert world.hold(purchase) == ("posted", Usdc("25"))
    assert world.hold(purchase, "bond") == ("posted", Usdc("1.25"))
    assert world.usage() == (ZERO, Usdc("26.25"))
    assert world.usage("agent", AGENT) == (ZERO, Usdc("25"))
    assert world.moves()[-1] == ("bond_loss", "1.25")
    assert world.coordinator.report().as_dict()["bonds_lost"] == "1.25"
    world.check_books()


def test_a_dispute_that_ends_with_a_refund_voids_both_holds(world: World) -> None:
    purchase = disputed(world)
    world.chain.move(world.chain.admin, purchase.escrow_id, EscrowState.CANCELLED)
    world.go()
    assert world.status(purchase) == "cancelled"
    assert world.chain.balance(world.treasury) == Usdc("1000")
    assert world.hold(purchase) == world.hold(purchase, "bond") == ("voided", ZERO)
    world.check_nothing_spent()
    assert world.moves()[-2:] == [("refund", "25.00"), ("bond_return", "1.25")]
    world.check_books()


def test_a_dispute_after_the_window_is_refused_and_holds_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settle="manual")
    purchase = world.fund()
    world.chain.deliver(purchase.escrow_id, window_seconds=HOUR)
    world.pass_time(HOUR + 1)
    world.go()
    answer = world.coordinator.dispute(purchase.id, approver="alice", reason="late")
    assert not answer.done and answer.reason and answer.reason.code == "dispute_window_closed"
    assert world.usage() == (Usdc("25"), ZERO)
    world.go()
    assert world.status(purchase) == "delivered"
    world.check_books()


@pytest.mark.parametrize(("at_fault", "gained"), [(True, Usdc("1.25")), (False, ZERO)])
def test_a_bond_that_the_provider_paid_is_a_deposit_when_we_get_it(
    world: World, at_fault: bool, gained: Usdc
) -> None:
    chain = world.chain
    purchase = world.fund("25.00")
    chain.deliver(purchase.escrow_id)
    chain.rpc.call("evm_setAutomine", True)
    chain.fund(chain.provider, usdc="1.25", wei=0)
    chain.hold_blocks()
    approve = token_abi().call("approve", chain.deployment.vault, Usdc("1.25").base_units)
    chain.act(chain.provider, chain.deployment.usdc, approve)
    chain.move(chain.provider, purchase.escrow_id, EscrowState.DISPUTED)
    world.go()
    assert world.status(purchase) == "disputed"
    assert world.usage() == (Usdc("25"), ZERO)
    chain.resolve(
        purchase.escrow_id, requester="25.00", provider="0.00", provider_at_fault=at_fault
    )
    world.go()
    settled = world.get(purchase)
    assert (settled.status, settled.spent) == ("settled", ZERO)
    assert world.hold(purchase) == ("voided", ZERO)
    assert chain.balance(world.treasury) == Usdc("1000") + gained
    assert (("deposit", "1.25") in world.moves()) is at_fault
    world.check_nothing_spent()
    world.check_books()


def test_a_dispute_that_reverted_is_tried_until_it_is_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.executor.due._RETRY_SECONDS", 0)
    chain, purchase = world.chain, world.fund("25.00")
    chain.deliver(purchase.escrow_id)
    world.go()
    assert world.coordinator.dispute(purchase.id, approver="alice", reason="empty").done
    world.round()
    assert [step.kind.value for step in world.in_flight()] == ["dispute"]
    chain.token_admin("pause")
    world.go()
    refused = world.get(purchase)
    assert (refused.status, world.in_flight()) == ("delivered", [])
    assert refused.stranded is not None
    assert "refuses to dispute it (Pausable: paused)" in refused.stranded.message
    assert world.hold(purchase, "bond") == ("held", ZERO)
    chain.token_admin("unpause")
    chain.mine()
    world.go()
    accepted = world.get(purchase)
    assert (accepted.status, accepted.stranded) == ("disputed", None)
    assert world.usage() == (Usdc("26.25"), ZERO)
    assert world.rows("SELECT count(*) FROM steps WHERE kind = 'dispute'") == [(2,)]
    world.check_books()


def test_a_dispute_refused_until_the_window_closed_is_settled_and_its_bond_voided(
    world: World,
) -> None:
    chain, purchase = world.chain, world.fund("25.00")
    chain.deliver(purchase.escrow_id, window_seconds=HOUR)
    world.go()
    chain.token_admin("pause")
    chain.mine()
    assert world.coordinator.dispute(purchase.id, approver="alice", reason="empty").done
    world.go()
    window_ends = world.get(purchase).window_ends
    assert window_ends is not None
    world.pass_time_until(window_ends)
    world.go()
    assert world.status(purchase) == "delivered"
    chain.token_admin("unpause")
    world.pass_time(1)
    world.go()
    assert world.status(purchase) == "settled"
    assert world.hold(purchase, "bond") == ("voided", ZERO)
    assert world.usage() == (ZERO, Usdc("25"))
    world.check_books()


@on_wallet
def test_a_bond_that_the_allowance_does_not_cover_is_approved_in_the_same_lane(
    make_world: Callable[..., World],
) -> None:
    world = make_world(allowance_limit="25")
    purchase = world.fund("25.00")
    assert world.chain.allowance(world.treasury) == ZERO
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.coordinator.dispute(purchase.id, approver="alice", reason="empty").done
    world.go()
    assert world.status(purchase) == "disputed"
    assert world.approvals_sent() == ["25.00", "25.00"]
    assert world.chain.allowance(world.treasury) == Usdc("23.75")
    world.check_books()
