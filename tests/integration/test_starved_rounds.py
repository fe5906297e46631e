"""What is due by the clock is done however many blocks, events and requests come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator.chain.abi import token_abi
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import KillPoint
from coordinator.executor.tempo import Pace
from tests.integration.bad_endpoint import Ask, Call
from tests.integration.node_wallet import create_data
from tests.integration.public_beat import (
    LOOK,
    LOOK_OPEN,
    ROUND,
    Calls,
    Ticks,
    deposit,
    make_public,
    pass_on,
    silent,
    watched,
)
from tests.integration.stores import on_either
from tests.integration.world import World

_BLOCK = 2.0


def live(
    world: World, ticks: Ticks, seconds: float, before_block: Callable[[], object] = lambda: None
) -> None:
    """Run turns as the executor's thread does, with a block every two seconds."""
    end, block = ticks.now + seconds, ticks.now + _BLOCK
    while ticks.now < end:
        left = max(0.01, world.executor._seconds_left())
        if ticks.now + left >= block:
            ticks.now, block = block, block + _BLOCK
            before_block()
            world.pass_time(int(_BLOCK))
        else:
            ticks.now += left
        world.executor.turn()


def final_number(world: World) -> int:
    final = world.wiring.books.final()
    assert final is not None
    return final.number


def no_block_takes_it(world: World, ticks: Ticks) -> None:
    """Five minutes in which blocks come and what is signed is in none of them."""
    live(world, ticks, 20)
    world.buy("1.00")
    world.executor.wake()
    live(world, ticks, 300, lambda: world.chain.rpc.call("anvil_dropAllTransactions"))
    assert world.executor._tempo.pace is Pace.BUSY


def deposits_come(world: World, ticks: Ticks) -> None:
    """Five minutes in which every look finds a deposit."""
    for _ in range(24):
        deposit(world, "0.01")
        ticks.now += LOOK
        world.executor.turn()


def somebody_asks(world: World, ticks: Ticks) -> None:
    """Five minutes in which somebody asks at every block."""
    for _ in range(160):
        ticks.now += _BLOCK
        world.pass_time(int(_BLOCK))
        world.executor.wake()
        world.executor.turn()


@on_either
@pytest.mark.parametrize("come", [no_block_takes_it, deposits_come, somebody_asks])
def test_what_is_final_is_read_while_something_always_comes_before_a_round_is_due(
    idle: World, ticks: Ticks, come: Callable[[World, Ticks], None]
) -> None:
    before = final_number(idle)
    come(idle, ticks)
    assert final_number(idle) > before


@on_either
def test_escrows_of_others_neither_cost_rounds_nor_keep_what_is_final_from_being_read(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    chain, executor = idle.chain, idle.executor
    idle.fund("5.00")
    idle.chain.mine()
    ticks.now += ROUND
    executor.turn()
    assert executor._tempo.pace is Pace.OPEN
    before = final_number(idle)
    calls.methods.clear()
    for look in range(50):  # in which another treasury creates escrows
        chain.send(chain.stranger, chain.deployment.kernel, create_data(chain, chain.stranger))
        chain.mine()
        ticks.now += LOOK_OPEN
        executor.turn()
        if look < 9:
            assert set(calls.methods) == {"eth_getLogs"}
    assert final_number(idle) > before


@on_either
def test_a_chain_without_a_new_block_costs_one_call_a_look(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    ticks.now += LOOK
    idle.executor.turn()
    assert calls.methods == ["eth_getLogs"]


@on_either
def test_a_transfer_of_zero_costs_no_round(idle: World, ticks: Ticks, calls: Calls) -> None:
    chain = idle.chain
    data = token_abi().call("transfer", idle.treasury, 0)
    chain.send(chain.stranger, chain.deployment.usdc, data)
    chain.mine()
    ticks.now += LOOK
    idle.executor.turn()
    assert calls.methods == ["eth_getLogs"]


@on_either
def test_a_move_of_our_own_escrow_is_found_by_the_next_look(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    purchase = idle.fund("5.00")
    idle.chain.mine()
    ticks.now += ROUND
    idle.executor.turn()
    idle.chain.deliver(purchase.escrow_id)
    idle.chain.mine()
    ticks.now += LOOK_OPEN
    idle.executor.turn()
    assert idle.status(purchase) == "delivered"


@on_either
def test_an_endpoint_that_stands_still_is_left_while_somebody_asks_all_the_time(
    make_world: Callable[..., World], ticks: Ticks, calls: Calls
) -> None:
    world = make_world()
    still, good = world.chain.url, world.chain.url.replace("127.0.0.1", "localhost")
    assert still != good
    world._settings["rpc_url"] = f"{still},{good}"
    world.restart()
    executor = world.executor
    executor._failover._ticks = ticks
    executor._failover._moved_at = executor._failover._looked_at = ticks.now
    make_public(world, ticks)
    ticks.now += ROUND
    executor.turn()
    stale = world.chain.height

    def old(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        if url != still:
            return ask(url, asked)
        named = [(m, [hex(stale), False]) if p and p[0] == "latest" else (m, p) for m, p in asked]
        instead = {"eth_getLogs": [], "eth_blockNumber": hex(stale)}
        told = ask(url, named)
        return [instead.get(method, a) for (method, _), a in zip(asked, told, strict=True)]

    calls.tell = old
    with watched(world, calls):
        first = world.buy("1.00")
        executor.wake()
        for _ in range(20):  # a minute
            with contextlib.suppress(ChainUnavailable):
                executor.turn()
            world.chain.mine()
            ticks.now += 3
            world.buy("1.00")
            executor.wake()
    assert world.status(first) == "funded"


@on_either
def test_whoever_asked_while_the_endpoint_was_out_is_signed_for_when_it_is_back(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    purchase = idle.buy()
    calls.tell = silent
    idle.executor.wake()
    with pytest.raises(ChainUnavailable):
        idle.executor.turn()
    calls.tell = pass_on
    ticks.now += 1

    idle.executor.turn()

    assert idle.steps_of(purchase)


@on_either
def test_what_a_round_read_before_it_broke_off_is_acted_upon_in_the_next_turn(
    make_world: Callable[..., World], ticks: Ticks, calls: Calls
) -> None:
    world = make_world(settle="on_delivery")
    purchase = world.fund("5.00")
    make_public(world, ticks)
    world.chain.mine()
    ticks.now += ROUND
    world.executor.turn()
    assert world.executor._tempo.pace is Pace.OPEN
    world.chain.deliver(purchase.escrow_id)
    world.chain.mine()

    def fail() -> None:
        raise ChainUnavailable("the endpoint did not answer")

    world.at(KillPoint.EVENTS_STORED, fail)
    ticks.now += LOOK_OPEN
    with pytest.raises(ChainUnavailable):
        world.executor.turn()
    assert world.status(purchase) == "delivered"
    world.chain.mine()

    world.executor.turn()

    assert "settle" in {step.kind for step in world.in_flight()}


@on_either
def test_the_lease_is_renewed_while_the_endpoint_does_not_answer_looks(
    idle: World, ticks: Ticks, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, leases = idle.executor, idle.wiring.leases
    leases._ticks = ticks
    monkeypatch.setattr(leases, "_given_clock", lambda: int(ticks.now * 1000))
    executor._lease_renewed = float("-inf")
    executor.turn()

    calls.tell = silent
    for _ in range(25):
        ticks.now += 2
        with contextlib.suppress(ChainUnavailable):
            executor.turn()
        holder = leases.present()
        assert holder is not None and holder.alive, f"after {ticks.now - ROUND} s"


@on_either
def test_whoever_waits_for_what_is_there_costs_no_call(idle: World, calls: Calls) -> None:
    executor, feed = idle.executor, idle.wiring.changes
    done = idle.buy()
    idle.coordinator.cancel(done.id, by="alice")
    feed.subscribe(executor._notice)
    with feed.watching() as told:
        assert told.wait(10)
    executor.turn()
    calls.methods.clear()
    for _ in range(5):
        idle.coordinator.wait_for(done.id, timeout_seconds=10)
        executor.turn()
    feed.unsubscribe(executor._notice)
    assert calls.methods == []


def paused(world: World) -> None:
    world.coordinator.pause("over the weekend", by="alice")


def agent_paused(world: World) -> None:
    world.coordinator.pause("over the weekend", by="alice", agent="research-agent")


def fees_above_the_ceiling(world: World) -> None:
    world._settings["max_fee_gwei"] = "0.000001"
    world.restart()


def kernel_paused(world: World) -> None:
    world.chain.kernel_admin("pause")


@on_either
@pytest.mark.parametrize("hold_back", [paused, agent_paused, fees_above_the_ceiling, kernel_paused])
def test_a_purchase_that_nobody_here_can_let_go_on_costs_no_round_a_block(
    make_world: Callable[..., World],
    ticks: Ticks,
    calls: Calls,
    hold_back: Callable[[World], None],
) -> None:
    world = make_world()
    world.buy("1.00")
    hold_back(world)
    world.chain.mine()
    make_public(world, ticks)
    live(world, ticks, 20)
    assert world.executor._tempo.pace is Pace.OPEN
    assert not world.in_flight()
    with watched(world, calls):
        ticks.now += LOOK_OPEN
        world.executor.turn()
    assert len(calls.methods) <= 1


@on_either
@pytest.mark.parametrize("agent", [None, "research-agent"])
def test_whoever_lifts_a_pause_wakes_the_worker(
    idle: World, ticks: Ticks, agent: str | None
) -> None:
    idle.buy("1.00")
    idle.coordinator.pause("over the weekend", by="alice", agent=agent)
    ticks.now += ROUND
    idle.executor.turn()
    before = idle.wiring.audit.head().count
    assert idle.coordinator.unpause("it is over", by="alice", agent=agent)
    rows = idle.wiring.audit.rows(before)
    idle.executor._woken.clear()  # which this process's own worker is woken by
    idle.executor._notice(frozenset(row["subject"] for row in rows))
    assert idle.executor._woken.is_set()


@on_either
def test_a_node_that_is_a_block_behind_is_no_news(idle: World, ticks: Ticks, calls: Calls) -> None:
    idle.buy("1.00")
    idle.executor.wake()
    idle.executor.turn()
    idle.chain.mine()
    ticks.now += _BLOCK
    idle.executor.turn()
    idle.buy("1.00")
    idle.executor.wake()
    idle.executor.turn()
    assert idle.executor._tempo.pace is Pace.BUSY
    behind = hex(idle.chain.height - 1)

    def lags(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        return ask(
            url, [(m, [behind, False]) if p and p[0] == "latest" else (m, p) for m, p in asked]
        )

    calls.tell = lags
    calls.methods.clear()
    ticks.now += _BLOCK
    idle.executor.turn()
    assert calls.methods == ["eth_getBlockByNumber"]
