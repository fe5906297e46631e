"""Wrong predictions of escrow ids, and bytes that a node loses, are put right by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.world import AGENT, World

pytestmark = [on_either, on_both_payers]


def funded_once(world: World, purchase: Purchase) -> str:
    """The one escrow that holds the purchase's USDC; every other one that it made is cancelled."""
    known = world.rows(
        "SELECT escrow_id, escrow_key FROM escrows WHERE purchase_id = ?", purchase.id
    )
    (linked,) = [escrow for escrow, key in known if key == purchase.escrow_key]
    assert world.chain.state(linked) is EscrowState.FUNDED
    assert world.chain.kernel("getTransaction", linked)[10].hex() == purchase.escrow_key[2:]
    assert world.chain.remaining(purchase.escrow_key) == purchase.amount
    for escrow, _ in known:
        if escrow != linked:
            assert world.chain.state(escrow) is EscrowState.CANCELLED
    assert world.moves(purchase) == [("fund", str(purchase.amount))]
    return str(linked)


@on_wallet
def test_links_behind_a_create_that_reverted_find_their_escrows_by_themselves(
    world: World,
) -> None:
    chain = world.chain
    first, *others = [world.buy("25.00", task=f"t{n}") for n in range(4)]
    world.round()
    held = world.hold_back(lambda step: step.call.purchase_id not in (None, first.id))
    chain.kernel_admin("pause")
    chain.mine()
    chain.kernel_admin("unpause")
    world.send_bytes(held)
    chain.mine()
    world.round()
    reverted = world.rows(
        "SELECT kind, revert_reason FROM steps WHERE status = 'reverted' ORDER BY nonce"
    )
    assert [kind for kind, _ in reverted] == ["create", *["link"] * 4]
    # What the last predicted exists in no later block either: its reason can still be asked for.
    assert reverted[-1] == ("link", "Tx missing")
    world.go()
    assert world.status(first) == "failed"
    assert [world.status(p) for p in others] == ["funded"] * 3
    assert len({funded_once(world, world.get(p)) for p in others}) == 3
    assert chain.balance(chain.deployment.vault) == Usdc("75")
    assert world.usage() == (Usdc("75"), ZERO)
    world.check_books()


def test_links_that_reach_a_twin_with_equal_terms_fund_each_purchase_once(world: World) -> None:
    chain = world.chain
    asked = [world.buy("25.00", task=f"t{n}") for n in range(3)]
    world.round()
    # As if another process had created one meanwhile: every prediction is one too low.
    chain.set_create_nonce(world.treasury, 1)
    world.go()
    purchases = [world.get(p) for p in asked]
    assert [p.status for p in purchases] == ["funded"] * 3
    assert len({funded_once(world, p) for p in purchases}) == 3
    # The second's link reached what the first had created; a Safe's batch left nothing behind.
    twins = 0 if world.safe else 1
    assert world.rows("SELECT count(*) FROM escrows WHERE state = 'cancelled'") == [(twins,)]
    assert chain.balance(chain.deployment.vault) == Usdc("75")
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("75"), ZERO)
    world.check_books()


def test_a_link_lost_from_the_pool_is_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.executor.sender._RESEND_SECONDS", 0)
    asked = world.buy_and_send()
    (link,) = world.hold_back(lambda step: step.kind is world.sent_as(StepKind.LINK))
    world.chain.mine()
    assert world.chain.pool(world.signer) == []
    world.round()
    waiting: list[dict[str, Any]] = world.chain.pool(world.signer)
    assert [t["hash"] for t in waiting] == [link.attempts[0].hash]
    world.go()
    assert world.status(asked) == "funded"
    world.check_books()
