"""Near the head neither an empty answer nor a receipt is believed on one reading."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import KillPoint
from tests.integration.bad_endpoint import Ask, Call
from tests.integration.public_beat import (
    ROUND,
    Calls,
    Ticks,
    booked,
    deposit,
    make_public,
    pass_on,
    watched,
)
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.test_reorg import DEEP, reorganise
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]

# All blocks of a test can still be reorganised.
_NEVER_FINAL = {"finality": "60"}


def not_indexed(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
    """As nodes whose index of logs is behind their blocks: by hash they tell them, by range not."""
    return [
        [] if method == "eth_getLogs" and "blockHash" not in params[0] else answer
        for (method, params), answer in zip(asked, ask(url, asked), strict=True)
    ]


class ByHash(Calls):
    """Counts the logs that are asked for by a block's hash."""

    count = 0

    def __call__(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        self.count += sum(m == "eth_getLogs" and "blockHash" in p[0] for m, p in calls)
        return super().__call__(url, calls, ask)


def a_round_later(world: World, ticks: Ticks) -> None:
    ticks.now += ROUND
    world.executor._drift.looked_at = None  # a minute ago
    world.executor.turn()


@pytest.mark.parametrize("confirmations", ["1", "3"])
def test_a_deposit_whose_logs_are_not_indexed_yet_is_booked_and_pauses_nothing(
    make_world: Callable[..., World], ticks: Ticks, calls: Calls, confirmations: str
) -> None:
    world = make_world(**_NEVER_FINAL, confirmations=confirmations)
    make_public(world, ticks)
    world.chain.mine(4)
    a_round_later(world, ticks)
    before = booked(world)
    with watched(world, calls):
        calls.tell = not_indexed
        world.chain.mine(3)
        deposit(world)
        world.chain.mine(6)
        a_round_later(world, ticks)
    assert booked(world) == before + Usdc("5")
    assert not world.wiring.operations.pauses()
    world.check_books()


def test_a_delivery_whose_logs_are_not_indexed_yet_is_seen(
    make_world: Callable[..., World], ticks: Ticks, calls: Calls
) -> None:
    world = make_world(**_NEVER_FINAL)
    purchase = world.fund("5.00")
    make_public(world, ticks)
    with watched(world, calls):
        calls.tell = not_indexed
        world.chain.deliver(purchase.escrow_id)
        world.chain.mine(6)
        a_round_later(world, ticks)
    assert world.status(purchase) == "delivered"


def test_what_no_log_explains_is_read_by_hash_once(
    make_world: Callable[..., World], ticks: Ticks
) -> None:
    world, calls = make_world(**_NEVER_FINAL), ByHash()
    make_public(world, ticks)
    world.chain.set_balance(world.treasury, Usdc("1000.5"))
    counts = []
    with watched(world, calls):
        for _ in range(3):
            world.chain.mine(5)
            a_round_later(world, ticks)
            counts.append(calls.count)
    assert counts[0] > 0 and set(counts) == {counts[0]}


def test_logs_left_out_by_hash_too_come_with_the_second_reading(
    make_world: Callable[..., World], ticks: Ticks, calls: Calls
) -> None:
    world = make_world(finality="10")
    make_public(world, ticks)
    before = booked(world)

    def none(url: str, asked: Sequence[Call], ask: Ask) -> list[Any]:
        told = zip(asked, ask(url, asked), strict=True)
        return [[] if method == "eth_getLogs" else answer for (method, _), answer in told]

    with watched(world, calls):
        calls.tell = none
        world.chain.mine(3)
        deposit(world, "0.001")
        world.chain.mine(3)
        a_round_later(world, ticks)
        assert booked(world) == before
        calls.tell = pass_on
        for _ in range(6):
            world.chain.mine(10)
            a_round_later(world, ticks)
    assert booked(world) == before + Usdc("0.001")


def test_receipts_of_a_block_that_was_lost_meanwhile_are_not_believed(
    make_world: Callable[..., World],
) -> None:
    world = make_world(**DEEP)
    world.fund("5.00")
    world.buy_and_send("1.00")
    world.chain.mine()
    world.at(KillPoint.EVENTS_STORED, lambda: reorganise(world, 1))
    with contextlib.suppress(ChainUnavailable):
        world.round()
    evidence = world.rows(
        "SELECT block_number, block_hash FROM attempts WHERE block_number IS NOT NULL"
    )
    assert evidence
    for number, block_hash in evidence:
        assert (
            world.chain.rpc.call("eth_getBlockByNumber", hex(number), False)["hash"] == block_hash
        )


@on_wallet
def test_an_order_that_failed_in_a_lost_block_alone_has_not_failed(
    make_world: Callable[..., World],
) -> None:
    world = make_world(**DEEP)
    world.fund("5.00")
    world.chain.mine()
    world.round()
    order = world.coordinator.withdraw(
        amount="1.00", to=world.chain.payee, approver="alice", reason="a test", timeout_seconds=0
    )
    world.round()
    (step,) = world.in_flight()
    world.chain.set_balance(world.treasury, Usdc("0"))  # it reverts in this block
    world.chain.mine()
    assert world.chain.receipt(step.attempts[-1].hash)["status"] == "0x0"
    raw = step.attempts[-1].raw
    world.at(KillPoint.EVENTS_STORED, lambda: reorganise(world, 2, [(raw, 1)]))
    with contextlib.suppress(ChainUnavailable):
        world.round()
    assert world.chain.receipt(step.attempts[-1].hash)["status"] == "0x1"
    for _ in range(3):
        world.chain.mine()
        with contextlib.suppress(ChainUnavailable):
            world.round()
    found = next(o for o in world.wiring.operations.orders() if o.id == order.id)
    assert found.status == "done"
    assert not world.wiring.operations.pauses()
