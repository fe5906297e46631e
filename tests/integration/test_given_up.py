"""What ended is never sent again: after a reorganisation its nonce is filled by a self-send."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Purchase, Usdc
from coordinator.domain.chain.steps import Step, StepKind
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.test_attacks import order, orders
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]
FAILED = ("failed", "another transaction took its nonce")


def displace(world: World, kind: StepKind) -> tuple[Step, str]:
    """The first step of the kind, ended by a stranger's transaction that is final; its hash."""
    (step, *_) = world.hold_back(lambda step: step.kind is kind)
    world.chain.mine()
    tx_hash = world.send_as_treasury(
        world.chain.stranger, "0x", nonce=hex(step.nonce), gas=hex(30_000)
    )
    world.chain.mine()
    for _ in range(8):
        world.round()
        world.chain.mine()
    world.unpause()
    return step, tx_hash


def lose(world: World, tx_hash: str) -> None:
    """Lose the transaction's block and all behind it, with all that they had."""
    chain = world.chain
    depth = chain.height - int(chain.receipt(tx_hash)["blockNumber"], 16) + 1
    chain.rpc.call("anvil_reorg", depth, [])
    chain.rpc.call("anvil_dropAllTransactions")
    chain.mine()


def go_on(world: World) -> None:
    for _ in range(8):
        world.round()
        world.chain.mine()


def mined(world: World, step: Step) -> list[tuple[str, int]]:
    """(status, whether it fills) of the step's attempts that the chain has."""
    return world.rows(
        "SELECT s.status, a.fills FROM attempts a JOIN steps s ON s.id = a.step_id"
        f" WHERE s.id = {step.id} AND a.block_number IS NOT NULL"
    )


@on_wallet
def test_a_withdrawal_that_a_stranger_displaced_and_that_was_ordered_again_is_paid_once(
    world: World,
) -> None:
    order(world)
    step, tx_hash = displace(world, StepKind.WITHDRAW)
    assert orders(world) == [FAILED]
    order(world)
    world.chain.mine()
    world.go()
    lose(world, tx_hash)
    go_on(world)
    assert world.chain.balance(world.chain.payee) == Usdc("10")
    assert sorted(orders(world)) == [("done", None), FAILED]
    assert mined(world, step) == [("displaced", 1)]
    assert world.in_flight() == []
    world.check_books()


@on_wallet
def test_a_withdrawal_that_reverted_and_was_ordered_again_is_paid_once(world: World) -> None:
    chain = world.chain
    order(world)
    (step,) = world.hold_back(lambda step: step.kind is StepKind.WITHDRAW)
    (attempt,) = step.attempts
    chain.token_admin("pause")
    world.send_bytes([step])
    chain.mine()
    world.go()
    ((status, _),) = orders(world)
    assert status == "failed"
    chain.token_admin("unpause")
    chain.mine()
    order(world)
    chain.mine()
    world.round()
    assert ("done", None) in orders(world)
    lose(world, attempt.hash)
    if chain.token("paused"):
        chain.token_admin("unpause")
        chain.mine()
    go_on(world)
    assert chain.balance(chain.payee) == Usdc("10")
    assert sorted(status for status, _ in orders(world)) == ["done", "failed"]
    assert mined(world, step) == [("displaced", 1)]


@on_wallet
def test_a_withdrawal_told_as_failed_whose_bytes_a_block_takes_after_all_is_told_and_pauses(
    world: World,
) -> None:
    order(world)
    step, tx_hash = displace(world, StepKind.WITHDRAW)
    lose(world, tx_hash)
    world.send_bytes([step])
    world.chain.mine()
    go_on(world)
    assert orders(world) == [("done", None)]
    assert mined(world, step) == [("mined", 0)]
    assert [str(pause) for pause in world.wiring.operations.pauses()] == ["organisation"]
    assert world.chain.balance(world.chain.payee) == Usdc("10")


@on_wallet
@pytest.mark.parametrize("kind", [StepKind.APPROVE, StepKind.CREATE, StepKind.LINK])
def test_a_purchases_step_that_a_stranger_displaced_is_filled_and_the_purchase_funded_once(
    world: World, kind: StepKind
) -> None:
    purchase = world.buy_and_send("25.00")
    step, tx_hash = displace(world, kind)
    world.go()
    lose(world, tx_hash)
    go_on(world)
    assert {fills for _, fills in mined(world, step)} <= {1}
    assert world.chain.remaining(purchase.escrow_key) <= Usdc("25")
    assert world.in_flight() == []
    world.check_books()


def test_a_settlement_that_a_stranger_displaced_is_filled_and_settled_once(
    world: World,
) -> None:
    purchase = world.to_settle()
    world.round()
    step, tx_hash = displace(world, StepKind.SETTLE)
    lose(world, tx_hash)
    go_on(world)
    assert mined(world, step) == [("displaced", 1)]
    assert world.status(purchase) == "settled"
    world.check_books()


def to_cancel(world: World) -> Purchase:
    """A created purchase whose cancelling waits in the pool."""
    purchase = world.buy_and_send("25.00")
    world.chain.set_balance(world.treasury, ZERO)
    world.chain.mine()
    world.chain.set_balance(world.treasury, Usdc("1000"))
    world.round()
    return purchase


def to_reclaim(world: World) -> Purchase:
    """A funded purchase past its deadline whose reclaim waits in the pool."""
    purchase = world.fund("25.00")
    assert purchase.deadline is not None
    world.pass_time_until(purchase.deadline + 1)
    world.round()
    return purchase


def to_dispute(world: World) -> Purchase:
    """A delivered purchase whose dispute waits in the pool."""
    purchase = world.fund("25.00")
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.wiring.treasury.dispute(
        purchase.id, approver="alice", reason="empty", bond=Usdc("1.25")
    ).done
    world.round()
    return purchase


@on_wallet
def test_the_cancelling_of_a_purchase_that_a_stranger_displaced_happens_once(world: World) -> None:
    ends_once(world, to_cancel(world), StepKind.CANCEL, "cancelled")


@pytest.mark.parametrize(
    ("begin", "kind", "end"),
    [
        (to_reclaim, StepKind.RECLAIM, "cancelled"),
        (to_dispute, StepKind.DISPUTE, "disputed"),
    ],
)
def test_the_end_of_a_purchase_that_a_stranger_displaced_happens_once(
    world: World, begin: Callable[[World], Purchase], kind: StepKind, end: str
) -> None:
    ends_once(world, begin(world), kind, end)


def ends_once(world: World, purchase: Purchase, kind: StepKind, end: str) -> None:
    step, tx_hash = displace(world, kind)
    lose(world, tx_hash)
    go_on(world)
    assert mined(world, step) == [("displaced", 1)]
    assert world.status(purchase) == end
    assert world.in_flight() == []
    world.check_books()
