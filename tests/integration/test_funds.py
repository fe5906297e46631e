"""A denial for want of funds is judged by the balance of the moment, where that can be read."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from coordinator import Coordinator, InvalidRequest
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def poor(make_world: Callable[..., World]) -> World:
    """A treasury whose stored balance is zero, and some seconds old."""
    world = make_world(usdc="0")
    world.round()
    world.pass_time(20)
    return world


def buy(coordinator: Coordinator) -> Purchase:
    return coordinator.agent(AGENT).purchase(
        provider="paper-api", amount="25.00", purpose="a test", wait=False
    )


def deposit(world: World, usdc: str = "100") -> None:
    world.chain.rpc.call("evm_setAutomine", True)
    world.chain.fund(world.treasury, usdc=usdc, wei=10**17)
    world.chain.hold_blocks()


def test_a_deposit_counts_at_once(poor: World) -> None:
    acting = poor.open(act=True)
    assert buy(acting).denied
    poor.pass_time(20)
    deposit(poor)

    assert buy(acting).status == "approved"
    assert acting.wiring.treasury.check(request()).outcome == "approved"


def request() -> Request:
    return Request.of(agent=AGENT, provider="paper-api", amount="25.00", purpose="a test")


def test_what_people_approve_is_judged_by_the_balance_of_the_moment(
    make_world: Callable[..., World],
) -> None:
    world = make_world(usdc="100")
    world.round()
    acting = world.open(act=True)
    waiting = world.buy("75.00")
    world.send_usdc_away("90")
    world.chain.mine()
    world.round()
    world.unpause()
    assert not world.coordinator.approve(waiting.approval_id or "", approver="alice").done
    world.pass_time(20)
    deposit(world)
    assert acting.approve(waiting.approval_id or "", approver="alice").done


def test_where_no_chain_is_asked_the_answer_says_how_old_the_balance_is(poor: World) -> None:
    deposit(poor)
    ((block,),) = poor.rows("SELECT block_number FROM observations")

    denied = buy(poor.coordinator)

    assert denied.denied and denied.reason is not None
    assert denied.reason.code == "insufficient_usdc"
    assert f"as of block {block}, read 2" in denied.reason.message
    assert poor.rows("SELECT count(*) FROM purchases") == [(1,)]


def test_an_endpoint_that_is_out_delays_a_denial_by_seconds_and_no_more(poor: World) -> None:
    acting = poor.open(act=True)
    acting.wiring.chain  # noqa: B018 - it was there when the process began
    acting.wiring.rpc._endpoints.all[0].url = NOBODY
    before = time.monotonic()
    denied = buy(acting)
    assert denied.reason is not None and "as of block" in denied.reason.message
    assert time.monotonic() - before < 30


def test_no_more_is_withdrawn_than_is_not_promised(make_world: Callable[..., World]) -> None:
    world = make_world(usdc="100")
    world.round()
    world.buy("40.00")
    order = {"to": world.chain.payee, "approver": "alice", "reason": "payday"}

    with pytest.raises(InvalidRequest) as refused:
        world.wiring.treasury.withdraw(amount="60.01", **order)

    assert refused.value.code == "insufficient_usdc"
    assert "60.00 USDC available" in str(refused.value)
    assert world.wiring.operations.orders() == []
    assert world.wiring.treasury.withdraw(amount="60.00", **order).status == "approved"
    world.go()
    assert world.chain.balance(world.treasury) == ZERO
