"""Blocks are lost, moved and replaced: the books follow, and nothing is paid twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.stores import on_both, on_both_payers, on_wallet
from tests.integration.world import World

pytestmark = [on_both, on_both_payers]
DEEP = {"finality": "30"}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(**DEEP)


def reorganise(world: World, depth: int, kept: Sequence[tuple[Any, int]] = ()) -> None:
    """Replace the last ``depth`` blocks; only ``kept`` transactions are in them, by offset."""
    world.chain.rpc.call("anvil_reorg", depth, [list(pair) for pair in kept])


def raws(world: World, purchase: Purchase) -> list[str]:
    return list(dict.fromkeys(step.attempts[-1].raw for step in world.steps_of(purchase)))


def attempts(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT hash FROM attempts ORDER BY hash")


def fundings(world: World, purchase: Purchase) -> int:
    """How often the canonical chain has funded an escrow under the purchase's key."""
    logs = world.chain.rpc.call(
        "eth_getLogs",
        {
            "fromBlock": "0x0",
            "address": world.chain.deployment.vault,
            "topics": [None, purchase.escrow_key],
        },
    )
    return len(logs)


def finalise(world: World) -> None:
    """Mine until everything so far is final, following."""
    world.chain.mine(30)
    world.round()
    world.round()


def test_a_lost_funding_is_sent_again_with_the_same_bytes(world: World) -> None:
    purchase = world.fund()
    signed = attempts(world)
    reorganise(world, 1)
    assert world.chain.balance(world.treasury) == Usdc("1000")
    world.round()
    assert world.status(purchase) == "approved"
    assert world.moves(purchase) == []
    assert world.hold(purchase) == ("held", ZERO)
    world.check_books()
    world.go()
    funded = world.get(purchase)
    assert (funded.status, funded.escrow_id) == ("funded", purchase.escrow_id)
    assert attempts(world) == signed
    assert fundings(world, purchase) == 1
    world.check_books()


def test_a_funding_that_moves_to_other_blocks_is_booked_once_where_it_is(world: World) -> None:
    purchase = world.fund()
    world.chain.mine(2)
    world.round()
    before = world.entries()[-1]
    lane = world.rows("SELECT raw FROM attempts JOIN steps ON steps.id = step_id ORDER BY nonce")
    # A lone transaction would make the very same block again.
    first = 1 if len(lane) == 1 else 0
    reorganise(world, 3, [(raw, at) for at, (raw,) in enumerate(lane, first)])
    world.round()
    assert world.status(purchase) == "funded"
    (entry,) = [e for e in world.entries() if e.escrow_key == purchase.escrow_key]
    assert (entry.tx_hash, entry.amount) == (before.tx_hash, before.amount)
    assert entry.block_hash != before.block_hash
    assert world.in_flight() == []
    world.check_books()


def test_a_success_that_turns_into_a_revert_ends_as_one(world: World) -> None:
    chain = world.chain
    world.fund("1.00")  # the wallet's allowance stands
    purchase = world.fund()
    bytes_sent = raws(world, purchase)
    reorganise(world, 1)
    chain.token_admin("pause")
    for raw in bytes_sent:
        chain.rpc.call("eth_sendRawTransaction", raw)
    chain.mine()
    world.round()
    assert world.status(purchase) == ("failed" if world.safe else "created")
    assert world.hold(purchase) == ("held", ZERO)
    world.go()
    ended = world.get(purchase)
    assert ended.status == world.unfunded
    assert ended.reason is not None and "paused" in ended.reason.message
    assert world.moves(purchase) == []
    finalise(world)
    assert world.hold(purchase) == ("voided", ZERO)
    world.check_books()


def test_a_revert_that_turns_into_a_success_ends_as_one(world: World) -> None:
    chain = world.chain
    world.fund("1.00")
    purchase = world.buy_and_send()
    bytes_sent = raws(world, purchase)
    chain.token_admin("pause")
    chain.mine()
    world.go()
    assert world.status(purchase) == world.unfunded
    world.round()
    depth = chain.height - first_block(world, purchase) + 1
    reorganise(world, depth, [(raw, 0) for raw in bytes_sent])
    world.go()
    funded = world.get(purchase)
    assert funded.status == "funded", funded
    assert chain.state(funded.escrow_id) is EscrowState.FUNDED
    assert world.hold(purchase) == ("held", ZERO)
    world.check_books()


def first_block(world: World, purchase: Purchase) -> int:
    ((number,),) = world.rows(
        "SELECT min(block_number) FROM attempts"
        " JOIN steps ON coalesce(steps.batch_id, steps.id) = step_id WHERE purchase_id = ?",
        purchase.id,
    )
    return int(number)


def test_a_lost_settlement_is_settled_again_and_posted_once(world: World) -> None:
    purchase = world.to_settle()
    world.go()
    assert world.status(purchase) == "settled"
    assert world.hold(purchase) == ("held", ZERO)
    reorganise(world, 1)
    world.round()
    assert world.status(purchase) == "delivered"
    world.go()
    assert world.status(purchase) == "settled"
    finalise(world)
    assert world.hold(purchase) == ("posted", Usdc("5"))
    assert world.usage() == (ZERO, Usdc("5"))
    world.check_books()


@on_wallet
def test_a_lost_withdrawal_is_an_open_order_again(world: World) -> None:
    payee = world.chain.payee
    world.wiring.treasury.withdraw(to=payee, amount="10", approver="alice", reason="a test")
    world.go()
    assert [o.status for o in world.wiring.operations.orders()] == ["done"]
    reorganise(world, 1)
    world.round()
    assert [o.status for o in world.wiring.operations.orders()] == ["approved"]
    world.go()
    assert [o.status for o in world.wiring.operations.orders()] == ["done"]
    assert world.chain.balance(payee) == Usdc("10")
    world.check_books()


def test_lost_provider_moves_take_the_purchase_back(world: World) -> None:
    purchase = world.fund()
    world.chain.deliver(purchase.escrow_id)
    world.round()
    assert world.get(purchase).window_ends is not None
    reorganise(world, 1)
    world.round()
    assert world.status(purchase) == "started"
    reorganise(world, 2)
    world.round()
    assert world.status(purchase) == "funded"
    assert world.get(purchase).window_ends is None
    world.check_books()


def test_a_reorganisation_below_final_pauses_and_holds_again(
    make_world: Callable[..., World],
) -> None:
    world = make_world(finality="2")
    purchase = world.to_settle()
    world.go()
    world.chain.mine(3)
    world.round()
    assert world.hold(purchase) == ("posted", Usdc("5"))
    reorganise(world, 4)
    world.round()
    assert world.status(purchase) == "delivered"
    assert world.hold(purchase) == ("held", ZERO)
    (pause,) = world.wiring.operations.pauses()
    assert str(pause) == "organisation" and "final" in pause.reason
    # What was signed is followed all the same.
    world.go()
    world.chain.mine(3)
    world.round()
    assert world.hold(purchase) == ("posted", Usdc("5"))
    assert not world.coordinator.unpause("it was me", by="research-agent")
    world.unpause()
    assert world.fund("1.00").status == "funded"
    world.check_books()


def test_a_chain_that_shares_no_block_with_the_books_stops_the_executor(world: World) -> None:
    world.fund()
    world.edit("UPDATE journal SET block_hash = '0xdead' || log_index")
    world.edit("UPDATE escrow_events SET block_hash = '0xbeef' || log_index || block_number")
    world.edit("UPDATE safe_events SET block_hash = '0xcafe' || log_index || block_number")
    world.edit("UPDATE cursors SET hash = '0xdead'")
    with pytest.raises(ImpossibleState, match="another chain"):
        world.round()


def test_one_wrong_answer_about_a_block_rolls_nothing_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.fund()
    cursor = world.wiring.books.cursor()
    assert cursor is not None
    lies = [1]

    def wrong_once(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        asked = [("eth_getBlockByNumber", [hex(cursor.number), False])]
        if lies and [(m, list(p)) for m, p in calls] == asked:
            lies.pop()
            return [{**answers[0], "hash": "0x" + "ee" * 32}]
        return answers

    BadEndpoint(world.wiring.rpc, monkeypatch, wrong_once)
    world.round()
    assert lies == []
    assert world.status(purchase) == "funded"
    assert world.rows("SELECT count(*) FROM audit WHERE event = 'journal_rolled_back'") == [(0,)]


def test_events_that_an_endpoint_left_out_are_put_in_once_they_are_final(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = world.fund()

    def without_moves(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        return [
            [] if method == "eth_getLogs" else a
            for (method, _), a in zip(calls, answers, strict=True)
        ]

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, without_moves)
    world.chain.deliver(purchase.escrow_id)
    world.round()
    endpoint.heal()
    world.chain.mine()
    world.round()
    assert world.status(purchase) == "funded"
    finalise(world)
    assert world.status(purchase) == "delivered"
    world.check_books()


def test_a_process_killed_after_a_rollback_goes_on(world: World) -> None:
    purchase = world.fund()
    reorganise(world, 1)

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    world.at(KillPoint.ROLLED_BACK, die)
    with pytest.raises(Killed):
        world.round()
    world.restart()
    world.go()
    assert world.status(purchase) == "funded"
    assert fundings(world, purchase) == 1
    world.check_books()
