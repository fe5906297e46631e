"""A delivery that its agent contests waits for its window, and approvers are told of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Purchase, UnknownId
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import on_both_payers, on_either
from tests.integration.test_forged_settling import PROVIDER, check_not_settled, delivered_in_doubt
from tests.integration.test_tampering import rounds
from tests.integration.world import AGENT, World

pytestmark = [on_either, on_both_payers]


@pytest.fixture
def prompt(make_world: Callable[..., World]) -> World:
    """A treasury that pays on delivery."""
    return make_world(settle="on_delivery")


def contest(world: World, purchase: Purchase) -> None:
    assert world.coordinator.agent(AGENT).contest(purchase.id, reason="an empty file").done


def test_it_is_paid_after_its_window_and_not_on_delivery(prompt: World) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    contest(world, bought)
    assert world.coordinator.unpause("fine", by="alice", **PROVIDER)
    rounds(world)
    check_not_settled(world, bought)

    world.pass_time_until(world.chain.window_ends(bought.escrow_id) + 1)
    world.go()

    assert world.status(bought) == "settled"
    assert verify(world.wiring.audit).ok
    world.check_books()


def test_an_order_to_settle_that_was_not_signed_is_taken_back(prompt: World) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    assert world.coordinator.unpause("fine", by="alice", **PROVIDER)
    assert world.coordinator.agent(AGENT).settle(bought.id).done

    contest(world, bought)
    rounds(world)

    check_not_settled(world, bought)
    assert world.coordinator.agent(AGENT).settle(bought.id).done
    world.go()
    assert world.status(bought) == "settled"


def test_approvers_are_told_once_until_when_and_may_dispute_it(prompt: World) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    contest(world, bought)
    contest(world, bought)

    [told] = world.coordinator.alerts(kind="contested")

    ends = world.coordinator.get(bought.id).as_dict()["dispute_window_ends"]
    assert told.notice.fields["window_ends"] == ends
    assert world.coordinator.dispute(bought.id, approver="alice", reason="empty").done


def test_an_edited_row_does_not_have_it_paid_early(prompt: World) -> None:
    world, bought = prompt, delivered_in_doubt(prompt)
    contest(world, bought)
    assert world.coordinator.unpause("fine", by="alice", **PROVIDER)
    world.edit("UPDATE purchases SET settle = 'on_delivery' WHERE id = ?", bought.id)
    assert any(bought.id in fault for fault in verify(world.wiring.audit).faults)
    rounds(world)

    check_not_settled(world, bought)


def test_only_a_delivery_of_its_own_can_be_contested(world: World) -> None:
    bought = world.fund("25.00")
    agent, other = (world.coordinator.agent(name) for name in (AGENT, "data-agent"))

    answer = agent.contest(bought.id, reason="late")

    assert (answer.done, str(answer.reason.code)) == (False, "not_settleable")
    with pytest.raises(UnknownId):
        other.contest(bought.id, reason="not mine")
