"""Without a worker, the first answer is given from books that have followed the chain."""

from __future__ import annotations

import pytest

from coordinator import Coordinator, Purchase
from coordinator.domain.purchase.purchase import Answer
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either


def settle(coordinator: Coordinator, purchase: Purchase) -> Answer:
    return coordinator.settle(purchase.id, approver="alice")


def settle_own(coordinator: Coordinator, purchase: Purchase) -> Answer:
    return coordinator.agent(AGENT).settle(purchase.id)


def dispute(coordinator: Coordinator, purchase: Purchase) -> Answer:
    return coordinator.dispute(purchase.id, approver="alice", reason="not what was asked")


@pytest.mark.parametrize("act", [settle, settle_own, dispute])
def test_what_a_provider_did_while_nobody_looked_is_known_at_once(world: World, act) -> None:  # type: ignore[no-untyped-def]
    bought = world.fund("25.00")
    world.coordinator.close()
    world.chain.deliver(bought.escrow_id)
    world.chain.mine()

    answer = act(world.open(act=True), bought)

    assert answer.done, answer.reason
