"""Nothing to do costs a call now and then, and nothing that happens meanwhile is missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.executor.tempo import Pace, Tempo
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.stores import on_both, on_either
from tests.integration.world import World

_LOOK, _ROUND = 14.0, 70.0


class Ticks:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Calls:
    """Passes everything on, and keeps the methods that were asked."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.tell: Callable[[str, Sequence[Call], Ask], list[Any]] = lambda url, calls, ask: ask(
            url, calls
        )

    def __call__(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        self.methods += [method for method, _ in calls]
        return self.tell(url, calls, ask)


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def idle(
    world: World, ticks: Ticks, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A world whose executor acts as on a public network and has nothing to do."""
    world.executor._tempo = Tempo(ticks=ticks, local=False)
    world.executor.turn()
    world.chain.mine()
    ticks.now += _ROUND
    world.executor.turn()
    assert world.executor._tempo.pace is Pace.IDLE
    BadEndpoint(world.wiring.rpc, monkeypatch, calls, unpacked=False)
    return world


def deposit(world: World, amount: str = "5") -> None:
    chain = world.chain
    chain.rpc.call("evm_setAutomine", True)
    chain.fund(world.treasury, usdc=amount, wei=0)
    chain.hold_blocks()


def booked(world: World) -> Usdc:
    return world.wiring.journal.treasury_balance()


@on_either
def test_blocks_of_others_cost_one_call_a_look(idle: World, ticks: Ticks, calls: Calls) -> None:
    cursor = idle.wiring.books.cursor()
    for _ in range(4):
        idle.chain.mine(7)
        ticks.now += _LOOK
        calls.methods.clear()
        idle.executor.turn()
        assert calls.methods == ["eth_getLogs"]
    assert idle.wiring.books.cursor() == cursor

    ticks.now += _ROUND - 4 * _LOOK
    idle.executor.turn()

    moved = idle.wiring.books.cursor()
    assert cursor is not None and moved is not None and moved.number == cursor.number + 28


@on_either
def test_between_two_looks_nothing_is_asked(idle: World, ticks: Ticks, calls: Calls) -> None:
    idle.chain.mine()
    ticks.now += _LOOK - 0.5
    idle.executor.turn()
    assert calls.methods == []


@on_either
def test_a_round_with_nothing_to_do_takes_few_calls(
    idle: World, ticks: Ticks, calls: Calls
) -> None:
    idle.chain.mine(35)
    ticks.now += _ROUND
    idle.executor.turn()
    assert len(calls.methods) <= 10, calls.methods


@on_either
def test_a_deposit_is_booked_by_the_next_look(idle: World, ticks: Ticks) -> None:
    before = booked(idle)
    deposit(idle)
    ticks.now += _LOOK
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
        ticks.now += _LOOK
        idle.executor.turn()
    assert booked(idle) == before

    calls.tell = lambda url, asked, ask: ask(url, asked)
    ticks.now += _LOOK
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
    ticks.now += _LOOK
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
    ticks.now += _LOOK
    idle.executor.turn()
    assert booked(idle) == before + Usdc("5")


@on_both
def test_a_purchase_that_another_process_asked_is_signed_at_once(world: World) -> None:
    world.executor._tempo = Tempo(ticks=time.monotonic, local=False)
    world.executor.start()
    assert world.executor.wait_for_look(60)
    other = world.open()
    until = time.monotonic() + _LOOK - 4
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
