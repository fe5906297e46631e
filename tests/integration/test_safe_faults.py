"""Batches of a Safe that fail, are displaced, lost or killed: what is good is funded, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator import Purchase, Usdc
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.stores import on_either
from tests.integration.test_given_up import displace, go_on, lose
from tests.integration.world import World

pytestmark = on_either

HOUR = 3600
DEEP = {"finality": "30"}
POINTS = [
    KillPoint.BEFORE_ALLOCATE,
    KillPoint.STEPS_ALLOCATED,
    KillPoint.ATTEMPTS_SIGNED,
    KillPoint.ATTEMPTS_STORED,
    KillPoint.ATTEMPTS_SENT,
    KillPoint.EVENTS_READ,
    KillPoint.EVENTS_STORED,
    KillPoint.RECEIPTS_READ,
    KillPoint.RECEIPTS_STORED,
    KillPoint.HOLDS_ENDED,
]


class Killed(BaseException):
    pass


def die() -> None:
    raise Killed


def spoil(world: World, *purchases: Purchase) -> None:
    """A stranger takes the vault's places of these purchases, so that no link of them is accepted.

    What is in the pool stays behind the stranger's own transactions.
    """
    chain, d = world.chain, world.chain.deployment
    chain.set_balance(chain.stranger, Usdc("10"))
    chain.send(chain.stranger, d.usdc, token_abi().call("approve", d.vault, 10_000_000))
    for number, purchase in enumerate(purchases):
        own = ActpRail(d.kernel, d.vault, chain.stranger).create(
            purchase_id="",
            provider=chain.other_provider,
            amount=Usdc("0.05"),
            service=None,
            deadline=chain.time + HOUR,
            dispute_window=HOUR,
            create_nonce=number,
        )
        key = purchase.escrow_key
        link = kernel_abi().call("linkEscrow", own.escrow_id, d.vault, key)
        chain.send(chain.stranger, d.kernel, own.data)
        chain.send(chain.stranger, d.kernel, link)


def check_ends(world: World, good: Sequence[Purchase], bad: Sequence[Purchase]) -> None:
    """The good are funded, once; of the bad nothing is left, and they are told why."""
    chain = world.chain
    assert [world.status(p) for p in good] == ["funded"] * len(good)
    assert len({world.get(p).escrow_id for p in good}) == len(good)
    for purchase in good:
        assert chain.state(world.get(purchase).escrow_id) is EscrowState.FUNDED
        assert chain.remaining(purchase.escrow_key) == purchase.amount
        assert world.hold(purchase) == ("held", ZERO)
    for purchase in bad:
        ended = world.get(purchase)
        assert (ended.status, ended.escrow_id) == ("failed", None)
        assert ended.reason is not None and "Escrow ID already used" in ended.reason.message
        assert world.hold(purchase) == ("voided", ZERO)
    spent = Usdc.sum(p.amount for p in good)
    assert chain.balance(world.treasury) == Usdc("1000") - spent
    assert chain.allowance(world.treasury) == ZERO
    assert world.in_flight() == []
    assert world.wiring.operations.pauses() == []
    world.check_books()


def test_one_bad_purchase_holds_up_none_of_those_beside_it(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(25)]
    world.round()
    assert [len(step.call.members) for step in world.in_flight()] == [50]
    spoil(world, asked[7])
    world.go()
    check_ends(world, [*asked[:7], *asked[8:]], asked[7:8])


def test_many_bad_purchases_hold_up_none_of_those_behind_them(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(12)]
    world.round()
    spoil(world, *asked[:6])
    world.go()
    check_ends(world, asked[6:], asked[:6])


def test_a_batch_behind_one_that_failed_is_made_again(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    first = world.buy("5.00", task="first")
    world.round()
    behind = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    world.round()
    assert [len(step.call.members) for step in world.in_flight()] == [2, 6]
    spoil(world, first)
    world.chain.mine()
    world.round()
    why = world.rows("SELECT revert_reason FROM steps WHERE kind = 'batch' ORDER BY nonce")
    assert why[:2] == [("Escrow ID already used",), ("Tx missing",)]
    world.go()
    check_ends(world, behind, [first])


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_a_failed_batch_is_taken_apart_loses_nothing(
    make_safe_world: Callable[..., World], point: KillPoint
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    world.round()
    spoil(world, asked[1])
    world.chain.mine()
    world.at(point, die)
    with pytest.raises(Killed):
        world.go()
    world.restart()
    world.go()
    check_ends(world, [asked[0], asked[2]], asked[1:2])


@pytest.mark.parametrize("again", ["fails again", "succeeds"])
def test_a_failed_batch_that_is_lost_with_its_blocks_pays_nothing_twice(
    make_safe_world: Callable[..., World], again: str
) -> None:
    world = make_safe_world(**DEEP)
    chain = world.chain
    asked = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    world.round()
    before = chain.height
    chain.token_admin("pause")
    chain.mine()
    chain.token_admin("unpause")
    chain.mine()
    world.go()
    assert [world.status(p) for p in asked] == ["funded"] * 3
    # All of it, whose purchases were made again one by one, is gone with its blocks.
    chain.rpc.call("anvil_reorg", chain.height - before, [])
    chain.rpc.call("anvil_dropAllTransactions")
    if again == "fails again":
        world.round()
        batch, *alone = world.in_flight()
        held = world.hold_back(lambda step: step.id != batch.id)
        assert [step.id for step in held] == [step.id for step in alone]
        chain.token_admin("pause")
        chain.mine()
        chain.token_admin("unpause")
        chain.mine()
    world.go()
    check_ends(world, asked, [])
    chain.mine(30)
    world.round()
    check_ends(world, asked, [])


def test_a_batch_that_a_stranger_displaced_is_filled_and_its_purchases_funded_once(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    world.round()
    step, tx_hash = displace(world, StepKind.BATCH)
    world.go()
    check_ends(world, asked, [])
    lose(world, tx_hash)
    go_on(world)
    world.unpause()
    assert step.id in {one for (one,) in world.rows("SELECT step_id FROM attempts WHERE fills = 1")}
    check_ends(world, asked, [])


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restart"])
def test_one_that_is_cancelled_before_its_batch_is_signed_takes_the_others_nowhere(
    make_safe_world: Callable[..., World], restarted: bool
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(3)]
    cancelled = "UPDATE purchases SET cancel_wanted = 1 WHERE id = ?"
    if restarted:
        world.at(KillPoint.STEPS_ALLOCATED, die)
        with pytest.raises(Killed):
            world.round()
        world.edit(cancelled, asked[1].id)
        world.restart()
    else:
        world.at(KillPoint.STEPS_ALLOCATED, lambda: world.edit(cancelled, asked[1].id))
    world.go()
    assert world.status(asked[1]) == "cancelled"
    # Its nonce went to nothing that is told of a purchase.
    assert world.get(asked[1]).transactions == ()
    assert world.steps_of(asked[1]) == []
    check_ends(world, [asked[0], asked[2]], [])


def test_a_missed_batch_whose_reason_no_node_tells_is_made_again(
    make_safe_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_safe_world()
    asked = world.buy("5.00")
    world.round()
    # As if another process had created one meanwhile.
    world.chain.set_create_nonce(world.treasury, 1)

    def forgetful(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        pruned = RpcRefusal(-32000, "missing trie node")
        return [
            pruned if method == "eth_call" and params[0].get("from") == world.signer else real
            for (method, params), real in zip(calls, ask(url, calls), strict=True)
        ]

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, forgetful)
    world.chain.mine()
    world.round()
    endpoint.heal()
    world.go()
    check_ends(world, [asked], [])


def test_what_is_mined_after_its_deadline_is_refused_whole(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    asked = world.buy_and_send("5.00")
    (held,) = world.hold_back(lambda step: step.kind is StepKind.BATCH)
    world.next_block_at(world.chain.time + 25 * HOUR)
    world.send_bytes([held])
    world.chain.mine()
    world.go()
    ended = world.get(asked)
    assert (ended.status, ended.escrow_id) == ("failed", None)
    assert world.chain.kernel("requesterNonces", world.treasury) == 0
    assert world.hold(asked) == ("voided", ZERO)
    world.check_nothing_spent()
    world.check_books()
