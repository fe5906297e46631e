"""A purchase that no node can be asked about delays nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.domain.chain.steps import StepKind
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import check_lane, fundings
from tests.chaos.fault_proxy import FaultProxy, Item, mentions
from tests.integration.stores import on_either, on_wallet, with_safe_in_campaigns
from tests.integration.world import World

pytestmark = [on_either, with_safe_in_campaigns]


def planning_of(escrow_ids: set[str]) -> Callable[[Item], bool]:
    """Calls in the treasury's name that mean one of the escrows."""
    means = [mentions(escrow_id) for escrow_id in escrow_ids]
    return lambda item: (
        item["method"] == "eth_call"
        and "from" in item["params"][0]
        and any(meant(item) for meant in means)
    )


@pytest.mark.parametrize("faulty", [1, 3, 5])
def test_purchases_whose_calls_no_node_answers_do_not_hold_up_the_others(
    make_world: Callable[..., World], proxy: FaultProxy, faulty: int
) -> None:
    world = make_world(rpc_url=proxy.url, settle="on_delivery")
    stuck = [world.fund("5.00") for _ in range(faulty)]
    behind = world.fund("6.00")
    ids = {str(purchase.escrow_id) for purchase in stuck}
    with proxy.faulty(faults.HEADER_NOT_FOUND, planning_of(ids)):
        for purchase in [*stuck, behind]:
            world.chain.deliver(purchase.escrow_id)
        fresh = world.buy("7.00")
        for _ in range(6):
            world.round()
            world.chain.mine()
        assert [world.status(purchase) for purchase in stuck] == ["delivered"] * faulty
        assert (world.status(behind), world.status(fresh)) == ("settled", "funded")
    world.go()
    assert [world.status(purchase) for purchase in stuck] == ["settled"] * faulty
    assert [fundings(world, p) for p in (*stuck, behind, fresh)] == [1] * (faulty + 2)
    check_lane(world)
    world.check_books()


@on_wallet
def test_an_order_whose_call_no_node_answers_does_not_hold_up_purchases(
    world: World, proxy: FaultProxy
) -> None:
    world.round()
    treasury, payee = world.wiring.treasury, world.chain.payee
    treasury.withdraw(to=payee, amount="10", approver="alice", reason="a test")
    with proxy.faulty(faults.HEADER_NOT_FOUND, mentions(payee)):
        asked = world.buy("25.00")
        for _ in range(3):
            world.round()
            world.chain.mine()
        assert world.status(asked) == "funded"
        assert [order.status for order in world.wiring.operations.orders()] == ["approved"]
    world.go()
    assert [order.status for order in world.wiring.operations.orders()] == ["done"]
    assert world.chain.balance(payee) == Usdc("10")
    check_lane(world)
    world.check_books()


def test_an_endpoint_that_runs_no_calls_at_all_is_not_asked_for_every_purchase(
    make_world: Callable[..., World], proxy: FaultProxy
) -> None:
    world = make_world(rpc_url=proxy.url, settle="on_delivery")
    stuck = [world.fund("1.00") for _ in range(8)]
    ids = {str(purchase.escrow_id) for purchase in stuck}
    for purchase in stuck:
        world.chain.deliver(purchase.escrow_id)
    with proxy.faulty(faults.HEADER_NOT_FOUND, planning_of(ids)):
        world.round()
        assert proxy.injected["header not found"] == 3
    world.go()
    assert [world.status(purchase) for purchase in stuck] == ["settled"] * 8
    world.check_books()


def test_a_stuck_nonce_delays_what_is_behind_it_only_until_it_is_repaired(
    world: World, proxy: FaultProxy
) -> None:
    world.fund("1.00")
    first = world.buy("5.00")
    # One node swallows the first purchase's create; those behind it wait in the pool.
    create = "eth_sendRawTransaction"
    proxy.plan(faults.NULL_RESULT, faults.method(create), times=1)
    world.round()
    world.hold_back(lambda step: step.kind is StepKind.CREATE)
    behind = [world.buy(f"{n}.00") for n in (6, 7, 8)]
    world.chain.mine()
    assert world.status(first) == "approved"
    world.round()
    world.chain.mine()
    world.round()
    assert [world.status(purchase) for purchase in (first, *behind)] == ["funded"] * 4
    world.go()
    check_lane(world)
    world.check_books()
