"""What was signed for a purchase may be mined, whatever its rows say: it is not told as ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Purchase
from coordinator.domain.errors import LedgerTampered
from tests.integration.stores import on_both
from tests.integration.test_tampering import paused, rounds
from tests.integration.world import AGENT, World

pytestmark = on_both


def reverted(world: World, sent: Purchase) -> None:
    world.edit("UPDATE steps SET status = 'reverted' WHERE purchase_id = ?", sent.id)


def without_steps(world: World, sent: Purchase) -> None:
    world.edit(
        "DELETE FROM attempts WHERE step_id IN (SELECT id FROM steps WHERE purchase_id = ?)",
        sent.id,
    )
    world.edit("DELETE FROM steps WHERE purchase_id = ?", sent.id)


def cancelled(world: World, sent: Purchase) -> None:
    without_steps(world, sent)
    world.edit("UPDATE purchases SET cancel_wanted = 1 WHERE id = ?", sent.id)


def check_held_and_funded(world: World, sent: Purchase) -> None:
    """Its hold stays until its transactions are mined, and then it is funded."""
    assert world.hold(sent)[0] == "held"
    assert not world.get(sent).final
    world.chain.mine()
    rounds(world)
    assert world.status(sent) == "funded"
    assert world.rows("SELECT event FROM audit WHERE event = 'contradiction'") == []
    assert world.chain.balance(world.treasury) == world.wiring.journal.treasury_balance()


@pytest.mark.parametrize("forge", [reverted, cancelled])
def test_a_purchase_whose_transactions_wait_is_not_failed(
    world: World, forge: Callable[[World, Purchase], None]
) -> None:
    world.fund("1.00")
    sent = world.buy_and_send("25.00")
    forge(world, sent)
    world.round()
    check_held_and_funded(world, sent)


def test_a_purchase_that_was_funded_is_not_failed(world: World) -> None:
    funded = world.fund("25.00")
    cancelled(world, funded)
    world.edit("DELETE FROM escrows WHERE purchase_id = ?", funded.id)
    world.edit("UPDATE purchases SET status = 'approved' WHERE id = ?", funded.id)
    rounds(world)
    assert world.hold(funded)[0] == "held"
    assert not world.get(funded).final
    assert "the vault was funded under this purchase's key" in str(world.get(funded).stranded)


def test_an_agent_cancels_nothing_whose_transactions_wait(world: World) -> None:
    world.fund("1.00")
    sent = world.buy_and_send("25.00")
    without_steps(world, sent)
    with pytest.raises(LedgerTampered, match="were signed"):
        world.coordinator.cancel(sent.id, by=AGENT)
    assert "were signed" in paused(world)
    check_held_and_funded(world, sent)


def forge_approval(world: World, sent: Purchase, expires_at: int) -> None:
    without_steps(world, sent)
    world.edit("UPDATE purchases SET status = 'awaiting_approval' WHERE id = ?", sent.id)
    world.edit(
        "INSERT INTO approvals (id, purchase_id, required, created_at, expires_at)"
        " VALUES ('apr_x', ?, 1, 1, ?)",
        sent.id,
        expires_at,
    )


def test_an_approval_that_was_made_up_ends_nothing_whose_transactions_wait(world: World) -> None:
    world.fund("1.00")
    sent = world.buy_and_send("25.00")
    forge_approval(world, sent, world.clock() - 1)
    assert world.buy("1.00").id != sent.id
    world.round()
    assert "were signed" in paused(world)
    assert world.hold(sent)[0] == "held"


def test_nobody_rejects_what_was_signed(world: World) -> None:
    world.fund("1.00")
    sent = world.buy_and_send("25.00")
    forge_approval(world, sent, world.clock() + 1000)
    with pytest.raises(LedgerTampered, match="were signed"):
        world.coordinator.reject("apr_x", approver="alice", reason="no")
    assert world.hold(sent)[0] == "held"
