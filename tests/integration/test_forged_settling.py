"""With SQL alone nobody has a delivery paid that people doubt, contest or did not decide on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Purchase, Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.ports import KillPoint
from coordinator.ledger.proofs.verification import verify
from tests.chaos.test_lane import Killed, die
from tests.integration.stores import on_both
from tests.integration.test_tampering import paused, rounds
from tests.integration.world import World

pytestmark = on_both

PROVIDER = {"provider": "paper-api"}


@pytest.fixture
def prompt(make_world: Callable[..., World]) -> World:
    """A treasury that pays on delivery."""
    return make_world(settle="on_delivery")


def delivered_in_doubt(world: World) -> Purchase:
    """A delivery that would be paid at once, were its provider not paused."""
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    assert world.coordinator.pause("a doubt", by="olga", **PROVIDER)
    world.round()
    assert world.status(bought) == "delivered"
    return bought


def check_not_settled(world: World, purchase: Purchase) -> None:
    assert world.chain.state(purchase.escrow_id) is EscrowState.DELIVERED
    assert world.status(purchase) == "delivered"


@pytest.mark.parametrize(
    "forge",
    [
        "DELETE FROM holds WHERE kind = 'bond'",
        "UPDATE holds SET status = 'voided' WHERE kind = 'bond'",
        # The dispute seems to be too late.
        "UPDATE escrows SET window_ends = 1",
    ],
)
def test_a_contested_delivery_is_not_paid(prompt: World, forge: str) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    assert world.coordinator.dispute(bought.id, approver="alice", reason="empty").done
    assert world.coordinator.unpause("it is contested", by="alice", **PROVIDER)
    world.edit(forge)
    assert "escrows" in forge or any(
        f"purchase {bought.id}" in fault and "bond" in fault
        for fault in verify(world.wiring.audit).faults
    )
    rounds(world)

    check_not_settled(world, bought)
    if "escrows" not in forge:
        assert "the hold of its bond is gone" in paused(world)


def test_a_dispute_whose_window_is_over_lets_the_delivery_be_paid(world: World) -> None:
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    assert world.coordinator.dispute(bought.id, approver="alice", reason="empty").done
    world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    world.go()
    assert world.status(bought) == "settled"
    world.check_books()


def test_a_doubted_provider_is_not_paid_early_for_a_window_that_was_edited(prompt: World) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    world.edit("DELETE FROM pauses")
    world.edit("UPDATE escrows SET window_ends = 1")
    rounds(world)

    check_not_settled(world, bought)
    assert "nobody unpaused it" in paused(world)


def test_a_settle_that_a_crash_left_unsigned_waits_for_its_window_once_there_is_a_doubt(
    world: World,
) -> None:
    bought = world.to_settle("25.00")
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    assert world.coordinator.pause("a doubt", by="olga", **PROVIDER)
    world.edit("DELETE FROM pauses")
    world.edit("UPDATE escrows SET window_ends = 1")
    world.restart()
    rounds(world)

    check_not_settled(world, bought)


def test_what_people_settle_is_not_paid_after_its_window_by_an_edited_row(
    make_world: Callable[..., World],
) -> None:
    world = make_world(settle="manual")
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)
    world.go()
    world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    rounds(world)
    check_not_settled(world, bought)
    world.edit("UPDATE purchases SET settle_wanted = 1 WHERE id = ?", bought.id)
    rounds(world)

    check_not_settled(world, bought)
    assert "anybody settles it" in paused(world)


def test_what_is_above_the_threshold_is_not_paid_on_delivery_by_an_edited_row(
    prompt: World,
) -> None:
    world = prompt
    waiting = world.buy("90.00")
    assert world.coordinator.approve(waiting.approval_id or "", approver="alice").done
    world.go()
    bought = world.get(waiting)
    world.chain.deliver(bought.escrow_id)
    rounds(world)
    check_not_settled(world, bought)
    world.edit("UPDATE purchases SET settle_wanted = 1 WHERE id = ?", bought.id)
    rounds(world)

    check_not_settled(world, bought)
    assert "settles it early" in paused(world)


def test_a_threshold_lowered_after_the_plan_keeps_a_settling_back_and_alarms_nobody(
    prompt: World,
) -> None:
    world = prompt
    bought = world.fund("25.00")
    world.chain.deliver(bought.escrow_id)

    def ask_above(amount: str) -> None:
        agents = {
            name: agent.model_copy(update={"approval_threshold": Usdc(amount)})
            for name, agent in world.policy.agents.items()
        }
        world.apply(world.policy.model_copy(update={"agents": agents}))

    world.at(KillPoint.BEFORE_ALLOCATE, lambda: ask_above("1"))
    rounds(world)
    check_not_settled(world, bought)
    assert world.wiring.operations.pauses() == []
    ask_above("50")
    world.go()
    assert world.status(bought) == "settled"
