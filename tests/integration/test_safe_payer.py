"""The payer `safe` on a real chain: purchases through a role, each batch whole or not at all."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.usdc import ZERO, Usdc
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either


def test_a_purchase_is_funded_through_the_role_and_reconciled(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    chain, nonce = world.chain, world.chain.nonce(world.signer)
    purchase = world.fund("25.00")
    assert chain.nonce(world.signer) == nonce + 1
    created, linked = purchase.transactions
    assert (created.step, linked.step) == ("create", "link")
    assert created.hash == linked.hash
    assert chain.state(purchase.escrow_id) is EscrowState.FUNDED
    assert chain.balance(world.treasury) == Usdc("975")
    assert chain.allowance(world.treasury) == ZERO
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("25"), ZERO)
    world.check_books()


def test_purchases_that_wait_share_a_transaction(make_safe_world: Callable[..., World]) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(30)]
    world.round()
    assert [step.kind for step in world.in_flight()] == [StepKind.BATCH, StepKind.BATCH]
    world.chain.mine()
    world.round()
    purchases = [world.get(one) for one in asked]
    assert {p.status for p in purchases} == {"funded"}
    assert {t.block for p in purchases for t in p.transactions} == {world.chain.height}
    assert world.chain.balance(world.treasury) == Usdc("850")
    world.check_books()
