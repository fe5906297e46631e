"""No amount that a stranger sends ends the books."""

from __future__ import annotations

from coordinator import Usdc
from coordinator.chain.evm.fiat_token import AMOUNT_MAX
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both
from tests.integration.world import World

pytestmark = on_both
TIMES = 12


def test_deposits_beyond_64_bits_are_summed_exactly(world: World) -> None:
    world.fund("1.00")
    for _ in range(TIMES):
        world.chain.token_admin("mint", world.treasury, AMOUNT_MAX)
        world.chain.mine()
    world.go()

    assert world.wiring.journal.treasury_balance() == world.chain.balance(world.treasury)
    assert world.discrepancies() == []
    assert world.wiring.reconciler.drift() == ZERO
    report = world.coordinator.report().as_dict()
    assert Usdc.from_base_units(TIMES * AMOUNT_MAX) + Usdc("1000") == parsed(report["deposits"])
    assert world.wiring.operations.pauses() == []
    world.fund("25.00")


def parsed(text: str) -> Usdc:
    whole, _, part = text.partition(".")
    return Usdc.from_base_units(int(whole) * 10**6 + int(part.ljust(6, "0")))
