"""The machine's clock jumps at every stage of a purchase: it is paid once or ends unpaid."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.domain.usdc import ZERO
from tests.chaos.evidence import check_lane, fundings
from tests.integration.stores import on_either, with_safe_in_campaigns
from tests.integration.world import World

pytestmark = [on_either, with_safe_in_campaigns]
FINALITY = 4
HOUR, DAY = 3600, 86_400


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(finality=str(FINALITY))


def jump(world: World, seconds: int) -> None:
    """Only the processes' clock: the chain's goes on as before."""
    world._passed += seconds


def finalise(world: World) -> None:
    world.go()
    world.chain.mine(FINALITY)
    world.round()
    world.go()


@pytest.mark.parametrize("seconds", [-DAY, -HOUR, HOUR // 2, DAY], ids="{:+d}s".format)
@pytest.mark.parametrize("back", [False, True], ids=["", "and back"])
def test_what_was_sent_before_a_jump_is_funded_and_settled_once(
    world: World, seconds: int, back: bool
) -> None:
    world.round()
    asked = world.buy_and_send()
    jump(world, seconds)
    world.chain.mine()
    world.round()
    assert world.status(asked) == "funded"
    if back:
        jump(world, -seconds)
    world.chain.deliver(world.get(asked).escrow_id)
    world.go()
    assert world.coordinator.settle(asked.id, approver="alice").done
    finalise(world)
    assert world.status(asked) == "settled"
    assert world.hold(asked) == ("posted", Usdc("25"))
    assert fundings(world, asked) == 1
    check_lane(world)
    world.check_books()


@pytest.mark.parametrize("seconds", [-DAY, -HOUR, HOUR // 2, DAY], ids="{:+d}s".format)
def test_what_was_asked_before_a_jump_is_funded_once_or_ends_with_nothing_sent(
    world: World, seconds: int
) -> None:
    world.round()
    asked = world.buy(idempotency_key="papers")
    jump(world, seconds)
    finalise(world)
    purchase = world.get(asked)
    if seconds < HOUR:
        assert purchase.status == "funded", purchase.reason
    else:
        # Beyond ``create_within`` nobody expects it any more.
        assert purchase.status == "failed"
        assert world.hold(asked) == ("voided", ZERO)
    assert fundings(world, asked) == (purchase.status == "funded")
    jump(world, -seconds)
    assert world.buy(idempotency_key="papers").id == asked.id
    finalise(world)
    assert world.status(asked) == purchase.status.value
    check_lane(world)
    world.check_books()
