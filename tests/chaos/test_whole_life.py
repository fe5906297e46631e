"""Every fault of a node, for the whole life of a purchase: nothing wrong is ever believed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from coordinator import ConfigurationError, Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.purchase.purchase import Purchase
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import check_lane, fundings, lane
from tests.chaos.fault_proxy import LOGS, RECEIPT, SEND, Fault, FaultProxy, Wanted, method
from tests.chaos.malformed import MALFORMED
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either

READS = method(
    "eth_getBlockByNumber",
    "eth_maxPriorityFeePerGas",
    "eth_getTransactionCount",
    "eth_getBalance",
    "eth_call",
    LOGS,
    RECEIPT,
)
STATUSES = {"approved", "created", "funded", "started", "delivered", "settled"}

# What a node may do at every request without an end; the purchase goes on or waits.
LASTING: dict[str, tuple[Fault, Wanted]] = {
    "cut before forwarding": (faults.CUT_BEFORE, faults.everything),
    "cut after forwarding": (faults.CUT_AFTER, faults.everything),
    "429": (faults.TOO_MANY, faults.everything),
    "429 with Retry-After": (faults.RETRY_AFTER, faults.everything),
    "429 for each item": (faults.LIMITED, faults.everything),
    "502": (faults.BAD_GATEWAY, faults.everything),
    "HTML": (faults.HTML_PAGE, faults.everything),
    "null body": (faults.NULL_BODY, faults.everything),
    "truncated JSON": (faults.TRUNCATED_JSON, faults.everything),
    "reordered": (faults.REORDERED, faults.everything),
    "one missing": (faults.ONE_MISSING, faults.everything),
    "null reads": (faults.NULL_RESULT, READS),
    "null receipts": (faults.NULL_RESULT, method(RECEIPT)),
    "null sends": (faults.NULL_RESULT, method(SEND)),
    "header not found": (faults.HEADER_NOT_FOUND, READS),
    "logs empty": (faults.EMPTY_LOGS, method(LOGS)),
    "logs truncated": (faults.HALF_THE_LOGS, method(LOGS)),
    "logs duplicated": (faults.LOGS_TWICE, method(LOGS)),
    "logs out of order": (faults.LOGS_BACKWARDS, method(LOGS)),
    "range error": (faults.NO_RANGE, method(LOGS)),
    **MALFORMED,
}


FINALITY = 8


@pytest.fixture
def world(
    make_world: Callable[..., World], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Faults here outlast every number of tries: two are as good as four, and quicker."""
    world = make_world(rpc_url=proxy.url, finality=str(FINALITY))
    monkeypatch.setattr(world.wiring.rpc, "_tries", 2)
    return world


def suffer(world: World, proxy: FaultProxy, purchase: Purchase, name: str, rounds: int = 4) -> None:
    """Rounds and blocks under a fault: nothing fails, no hold ends, nothing is alarmed."""
    fault, wanted = LASTING[name]
    proxy.plan(fault, wanted)
    hold = world.hold(purchase)
    for _ in range(rounds):
        try:
            world.round()
        except ChainUnavailable as told:
            assert told.money_moved is False
        world.chain.mine()
        assert world.status(purchase) in STATUSES
        assert world.get(purchase).reason is None
        assert world.hold(purchase) == hold
        assert world.wiring.operations.pauses() == []
    proxy.heal()
    finalise(world)


def finalise(world: World) -> None:
    """Go on until everything that is on the chain now is final and was read again."""
    world.go()
    world.chain.mine(FINALITY)
    world.round()
    world.go()


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_at_every_turn_of_a_purchase_only_delays_it(
    world: World, proxy: FaultProxy, name: str
) -> None:
    world.round()
    asked = world.buy("25.00")
    suffer(world, proxy, asked, name)
    assert world.status(asked) == "funded"
    world.chain.deliver(world.get(asked).escrow_id)
    suffer(world, proxy, asked, name)
    assert world.status(asked) == "delivered"
    assert world.coordinator.settle(asked.id, approver="alice").done
    suffer(world, proxy, asked, name)
    check_settled_once(world, asked)
    assert sum(proxy.injected.values()) >= 2


def check_settled_once(world: World, asked: Purchase) -> None:
    assert world.status(asked) == "settled"
    assert world.hold(asked) == ("posted", Usdc("25"))
    assert fundings(world, asked) == 1
    assert [kind for kind, *_ in lane(world)] == ["approve", "create", "link", "settle"]
    assert world.chain.balance(world.treasury) == Usdc("975")
    check_lane(world)
    world.check_books()


def test_a_stale_node_after_every_step_is_not_believed(world: World, proxy: FaultProxy) -> None:
    world.round()
    asked = world.buy("25.00")
    for ends, act in (
        ("funded", lambda: None),
        ("delivered", lambda: world.chain.deliver(world.get(asked).escrow_id)),
        ("settled", lambda: world.coordinator.settle(asked.id, approver="alice")),
    ):
        act()
        world.round()
        old = world.chain.height
        world.chain.mine(2)
        world.round()
        before = lane(world)
        with proxy.faulty(faults.stale(old)):
            for _ in range(3):
                with pytest.raises(ChainUnavailable, match="behind block"):
                    world.round()
                world.chain.mine()
        assert lane(world) == before
        finalise(world)
        assert world.status(asked) == ends
    check_settled_once(world, asked)


def test_a_node_that_is_behind_in_every_second_answer_is_not_mixed_up(
    world: World, proxy: FaultProxy
) -> None:
    world.fund("1.00")
    old = world.chain.height
    asked = world.buy_and_send()
    world.chain.mine(3)
    stale, waited = faults.stale(old), 0
    for turn in range(1, 9):
        # One request of the round, a later one each time, is answered by the node behind.
        proxy.plan(stale, first=turn, times=1)
        try:
            world.round()
        except ChainUnavailable:
            waited += 1
        proxy.heal()
        assert world.status(asked) in STATUSES
    assert waited >= 2 and proxy.injected["stale node"] >= 4
    finalise(world)
    assert world.status(asked) == "funded"
    check_lane(world)
    world.check_books()


def test_a_wrong_chain_id_signs_nothing_and_tells_it(world: World, proxy: FaultProxy) -> None:
    asked = world.buy("25.00")
    with proxy.faulty(faults.WRONG_CHAIN, method("eth_chainId")):
        with pytest.raises(ConfigurationError, match=r"chain 1\b|not on chain|is chain 1"):
            world.round()
        assert world.rows("SELECT count(*) FROM steps") == [(0,)]
    world.restart()
    world.go()
    assert world.status(asked) == "funded"
    world.check_books()


def test_a_slow_answer_is_waited_for(world: World, proxy: FaultProxy) -> None:
    asked, gate = world.buy("25.00"), threading.Event()
    world.round()
    world.chain.mine()
    proxy.plan(faults.delayed(gate), times=1)
    done = threading.Thread(target=world.round)
    done.start()
    while not proxy.injected["delay"]:
        assert done.is_alive()
    assert world.status(asked) == "approved"
    gate.set()
    done.join()
    proxy.heal()
    finalise(world)
    assert world.status(asked) == "funded"
    world.check_books()


def test_a_storm_of_429_and_null_bodies_does_not_make_batches_small_for_ever(
    world: World, proxy: FaultProxy
) -> None:
    world.fund("1.00")
    proxy.posts.clear()
    world.fund("1.00")
    usual = max(proxy.posts)
    for fault in (faults.TOO_MANY, faults.RETRY_AFTER, faults.NULL_BODY, faults.BAD_GATEWAY_JSON):
        with proxy.faulty(fault), pytest.raises(ChainUnavailable):
            world.round()
    proxy.posts.clear()
    asked = world.fund("2.00")
    assert max(proxy.posts) >= usual
    assert fundings(world, asked) == 1
    world.check_books()


def test_receipts_that_vanish_beyond_finality_do_not_fail_a_withdrawal_that_was_made(
    world: World, proxy: FaultProxy
) -> None:
    """Told failed it would be ordered again, and paid twice."""
    chain, book = world.chain, world.wiring.operations
    asked = world.fund("1.00")
    world.wiring.treasury.withdraw(to=chain.payee, amount="10", approver="alice", reason="a test")
    second = world.buy("25.00")
    world.round()
    with proxy.faulty(faults.NULL_RESULT, method(RECEIPT)):
        for _ in range(FINALITY + 6):
            chain.mine()
            world.round()
        assert chain.balance(chain.payee) == Usdc("10")
        assert [order.status for order in book.orders()] == ["approved"]
        assert book.pauses() == []
    finalise(world)
    assert [order.status for order in book.orders()] == ["done"]
    assert [world.status(p) for p in (asked, second)] == ["funded", "funded"]
    check_lane(world)
    world.check_books()
