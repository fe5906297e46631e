"""Nothing to do costs a call now and then, and nothing that happens meanwhile is missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.executor.tempo import Tempo
from tests.integration.bad_endpoint import Ask, Call
from tests.integration.public_beat import (
    LOOK,
    ROUND,
    Calls,
    Ticks,
    booked,
    deposit,
    silent,
)
from tests.integration.stores import on_both, on_either
from tests.integration.world import World

_LONG = 60.0


@on_either
def test_blocks_of_others_cost_one_call_a_look(idle: World, ticks: Ticks, calls: Calls) -> None:
    cursor = idle.wiring.books.cursor()
    for _ in range(4):
        idle.chain.mine(7)
        ticks.now += LOOK
        calls.methods.clear()
        idle.executor.turn()
        assert calls.methods == ["eth_getLogs"]
    assert idle.wiring.books.cursor() == cursor

    ticks.now += ROUND - 4 * LOOK
    idle.executor.turn()

    moved = idle.wiring.books.cursor()
    assert cursor is not None and moved is not None and moved.number == cursor.number + 28


@on_either
def test_between_two_looks_nothing_is_asked(idle: World, ticks: Ticks, calls: Calls) -> None:
    idle.chain.mine()
    ticks.now += LOOK - 0.5
    idle.executor.turn()
    assert calls.methods == []


@on_either
def test_a_round_with_nothing_to_do_takes_few_calls(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    idle.chain.mine(35)
    ticks.now += ROUND
    idle.executor.turn()
    assert len(calls.methods) <= 10, calls.methods


@on_either
def test_whoever_takes_over_tells_so_although_the_chain_is_silent(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    idle.executor._lease = None
    calls.tell = silent
    with idle.wiring.changes.watching() as told:
        assert told.wait(_LONG)
        told.clear()
        with pytest.raises(ChainUnavailable):
            idle.executor.turn()
        assert told.wait(_LONG)


@on_either
def test_a_deposit_is_booked_by_the_next_look(idle: World, ticks: Ticks) -> None:
    before = booked(idle)
    deposit(idle)
    ticks.now += LOOK
    idle.executor.turn()
    assert booked(idle) == before + Usdc("5")


@on_either
def test_whoever_asks_is_signed_for_without_waiting_for_a_look(idle: World) -> None:
    purchase = idle.buy()
    idle.executor.wake()
    idle.executor.turn()
    assert purchase.id in {step.call.purchase_id for step in idle.in_flight()}


@on_either
def test_an_endpoint_that_stands_still_is_found_out_by_the_round(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    before, stale = booked(idle), idle.chain.height

    def old(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        named = [(m, [hex(stale), False]) if p and p[0] == "latest" else (m, p) for m, p in asked]
        told = ask(url, named)
        return [[] if m == "eth_getLogs" else a for (m, _), a in zip(asked, told, strict=True)]

    calls.tell = old
    deposit(idle)
    for _ in range(5):
        ticks.now += LOOK
        idle.executor.turn()
    assert booked(idle) == before

    calls.tell = lambda url, asked, ask: ask(url, asked)
    ticks.now += LOOK
    idle.executor.turn()
    assert booked(idle) == before + Usdc("5")


@on_either
def test_an_endpoint_that_is_silent_is_told_and_asked_again(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    before = booked(idle)

    def silent(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        raise ChainUnavailable("the endpoint did not answer")

    calls.tell = silent
    deposit(idle)
    ticks.now += LOOK
    with pytest.raises(ChainUnavailable):
        idle.executor.turn()
    calls.tell = lambda url, asked, ask: ask(url, asked)

    idle.executor.turn()

    assert booked(idle) == before + Usdc("5")


@on_either
def test_logs_that_are_refused_make_a_round(idle: World, ticks: Ticks, calls: Calls) -> None:
    before = booked(idle)
    deposit(idle)

    def refused(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        wide = [
            (m, [{**p[0], "fromBlock": "0xffffff"}])
            if m == "eth_getLogs" and p[0].get("toBlock") == "latest"
            else (m, p)
            for m, p in asked
        ]
        return ask(url, wide)

    calls.tell = refused
    ticks.now += LOOK
    idle.executor.turn()
    assert booked(idle) == before + Usdc("5")


@on_both
def test_a_purchase_that_another_process_asked_is_signed_at_once(world: World) -> None:
    world.executor._tempo = Tempo(ticks=time.monotonic, local=False)
    world.executor.start()
    assert world.executor.wait_for_look(60)
    other = world.open()
    until = time.monotonic() + LOOK - 4
    purchase = other.agent("research-agent").purchase(
        provider="paper-api", amount="25.00", purpose="a test", wait=False
    )
    while not world.in_flight() and time.monotonic() < until:
        time.sleep(0.05)
    assert purchase.id in {step.call.purchase_id for step in world.in_flight()}


def bought(world: World, _: str) -> None:
    world.buy("5.00")


def approved(world: World, _: str) -> None:
    waiting = world.buy("75.00")
    assert world.coordinator.approve(waiting.approval_id or "", approver="alice").done


def settled(world: World, delivered: str) -> None:
    assert world.coordinator.settle(delivered, approver="alice").done


def disputed(world: World, delivered: str) -> None:
    assert world.coordinator.dispute(delivered, approver="alice", reason="it is empty").done


def withdrawn(world: World, _: str) -> None:
    world.coordinator.withdraw(
        amount="1.00", to=world.chain.payee, approver="alice", reason="a test", timeout_seconds=0
    )


@on_either
@pytest.mark.parametrize("act", [bought, approved, settled, disputed, withdrawn])
def test_whatever_another_process_orders_wakes_the_worker(
    idle: World, act: Callable[[World, str], None]
) -> None:
    purchase = idle.fund("5.00")
    idle.chain.deliver(purchase.escrow_id)
    idle.go()
    before = idle.wiring.audit.head().count

    act(idle, purchase.id)

    rows = idle.wiring.audit.rows(before)
    # What this process does wakes its own worker; another's is seen in the log alone.
    idle.executor._woken.clear()
    idle.executor._notice(frozenset(row["subject"] for row in rows))
    assert idle.executor._woken.is_set()
