"""What a block proves counts when the block is deep enough, and not before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import LeaseLost
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either
DEPTH = 4


@pytest.fixture
def deep(make_world: Callable[..., World]) -> World:
    """A world whose books end three blocks below the head."""
    return make_world(confirmations=str(DEPTH), finality="30")


def evidence(world: World) -> list[tuple[str]]:
    return world.rows("SELECT hash FROM attempts WHERE block_number IS NOT NULL")


def rounds(world: World, count: int, *, blocks: int = 0) -> None:
    for _ in range(count):
        world.round()
        if blocks:
            world.chain.mine(blocks)


def lose(world: World, blocks: int) -> None:
    """Replace the last blocks by empty ones; our bytes come back into the pool."""
    world.chain.rpc.call("anvil_reorg", blocks, [])
    world.send_bytes(world.in_flight())


# Receipts of blocks that the books do not have yet.


def test_a_receipt_above_the_books_proves_nothing_yet(deep: World) -> None:
    purchase = deep.buy_and_send()
    for _ in range(DEPTH - 1):
        deep.chain.mine()
        rounds(deep, 2)
        assert evidence(deep) == []
        assert len(deep.in_flight()) == 3
        assert deep.status(purchase) == "approved"
    deep.chain.mine()
    rounds(deep, 1)
    assert len(evidence(deep)) == 3
    assert deep.in_flight() == []
    assert deep.status(purchase) == "funded"


def test_a_revert_above_the_books_fails_no_purchase_and_may_be_lost_again(deep: World) -> None:
    purchase = deep.buy_and_send()
    deep.chain.rpc.call("anvil_dropAllTransactions")
    deep.chain.kernel_admin("pause")
    deep.chain.mine()
    deep.send_bytes(deep.in_flight())
    deep.chain.mine()
    rounds(deep, 3)
    assert deep.status(purchase) == "approved"
    assert deep.hold(purchase) == ("held", ZERO)
    lose(deep, 2)
    deep.chain.mine(DEPTH)
    rounds(deep, 2)
    assert deep.status(purchase) == "funded"
    assert deep.chain.remaining(purchase.escrow_key) == purchase.amount


def test_a_withdrawal_above_the_books_is_not_done_and_may_be_lost_again(deep: World) -> None:
    payee = deep.chain.payee
    before = deep.chain.balance(payee)
    deep.wiring.treasury.withdraw(to=payee, amount="10", approver="alice", reason="a test")
    rounds(deep, 1)
    deep.chain.mine(2)
    rounds(deep, 2)
    assert deep.rows("SELECT status FROM orders") == [("approved",)]
    lose(deep, 2)
    rounds(deep, 1)
    deep.chain.mine(DEPTH)
    rounds(deep, 1)
    assert deep.rows("SELECT status FROM orders") == [("done",)]
    assert deep.chain.balance(payee) == before + Usdc("10")


# Nonces that a stranger's transaction used.


def test_a_used_nonce_is_a_strangers_only_when_its_block_is_final(
    make_world: Callable[..., World],
) -> None:
    world = make_world(finality="8")
    purchase = world.buy_and_send()
    held = world.hold_back(lambda step: step.kind is StepKind.LINK)
    world.chain.mine()
    stranger = world.chain.stranger
    world.send_as_treasury(stranger, "0x", nonce=hex(held[0].nonce), gas=hex(30_000))
    world.chain.mine()
    for _ in range(6):
        rounds(world, 2)
        assert world.wiring.operations.pauses() == []
        assert [step.kind for step in world.in_flight()] == [StepKind.LINK]
        world.chain.mine()
    rounds(world, 2, blocks=1)
    assert [str(p) for p in world.wiring.operations.pauses()] == ["organisation"]
    assert [step.kind for step in world.in_flight()] == [StepKind.CANCEL]
    assert world.chain.remaining(purchase.escrow_key) == ZERO


def test_a_strangers_transaction_that_is_lost_again_pauses_nothing_and_costs_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world(finality="12")
    purchase = world.buy_and_send()
    held = world.hold_back(lambda step: step.kind is StepKind.LINK)
    world.chain.mine()
    stranger = world.chain.stranger
    world.send_as_treasury(stranger, "0x", nonce=hex(held[0].nonce), gas=hex(30_000))
    world.chain.mine()
    rounds(world, 6)
    lose(world, 1)
    world.go()
    assert world.wiring.operations.pauses() == []
    assert world.status(purchase) == "funded"
    assert world.chain.remaining(purchase.escrow_key) == purchase.amount
    world.check_books()


def test_a_nonce_whose_strangers_transaction_is_gone_below_finality_is_used_again(
    world: World,
) -> None:
    world.fund("1.00")
    world.buy_and_send()
    held = world.hold_back(lambda step: step.kind is StepKind.LINK)
    world.chain.mine()
    stranger = world.chain.stranger
    world.send_as_treasury(stranger, "0x", nonce=hex(held[0].nonce), gas=hex(30_000))
    world.chain.mine()
    for _ in range(4):
        assert world.rows("SELECT nonce FROM steps WHERE status = 'displaced'") == []
        rounds(world, 1)
    assert world.rows("SELECT nonce FROM steps WHERE status = 'displaced'") == [(held[0].nonce,)]
    world.chain.rpc.call("anvil_dropAllTransactions")
    world.chain.rpc.call("anvil_reorg", 1, [])
    world.chain.rpc.call("anvil_dropAllTransactions")
    rounds(world, 1)
    assert world.rows("SELECT nonce FROM steps WHERE status = 'displaced'") == []
    world.unpause()
    world.go()
    assert world.in_flight() == []
    after = world.fund("2.00")
    assert world.chain.remaining(after.escrow_key) == after.amount
    world.check_books()


# A lease that is lost while its holder works.


@pytest.mark.parametrize(
    ("point", "steps"),
    [(KillPoint.BEFORE_ALLOCATE, []), (KillPoint.ATTEMPTS_SIGNED, ["approve", "create", "link"])],
    ids=["before it allocates", "before it stores"],
)
def test_who_loses_the_lease_while_it_works_writes_and_sends_nothing_more(
    world: World, point: KillPoint, steps: list[str]
) -> None:
    purchase = world.buy("25.00")
    successor = world.open().wiring.executor
    lost = []

    def lose_the_lease() -> None:
        world.edit("UPDATE leases SET expires_at_ms = 0")
        lost.append(world.open().wiring.leases.acquire("another", seconds=60))

    world.at(point, lose_the_lease)
    with pytest.raises(LeaseLost):
        world.round()
    assert world.chain.pool(world.treasury) == []
    assert world.rows("SELECT hash FROM attempts") == []
    assert [kind for (kind,) in world.rows("SELECT kind FROM steps ORDER BY nonce")] == steps
    world.wiring.leases.release(lost[0])
    for _ in range(2):
        assert successor.run_once()
        world.chain.mine()
    assert successor.run_once()
    assert world.status(purchase) == "funded"
    assert world.chain.remaining(purchase.escrow_key) == purchase.amount
