"""A Safe's worker gets another key: its owners move the role, and the log names who signs."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from eth_account import Account

from coordinator.chain.safe import roles
from coordinator.chain.safe.configuration import DISPUTES, PURCHASES
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.verification import verify
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either


@pytest.fixture
def world(make_safe_world: Callable[..., World]) -> World:
    return make_safe_world()


def change_key(world: World) -> str:
    """Have the owners give the role to a fresh key, and start with it; its address."""
    assert world.safe is not None
    former, key = world.signer, "0x" + secrets.token_hex(32)
    fresh = Account.from_key(key).address
    world.chain.rpc.call("evm_setAutomine", True)
    ours = (PURCHASES, DISPUTES)
    world.safe.owners_set(roles.assign_roles(fresh, ours))
    world.safe.owners_set(roles.assign_roles(former, ours, member_of=False))
    world.chain.fund(fresh, usdc="0", wei=10**17)
    world.chain.hold_blocks()
    world.secrets["FORMER_KEY"] = world.secrets["TREASURY_PRIVATE_KEY"]
    world.secrets["TREASURY_PRIVATE_KEY"] = key
    world.restart(former_signers="env:FORMER_KEY")
    world.signer = fresh
    return str(fresh)


def test_the_next_key_goes_on_with_what_the_former_began(world: World) -> None:
    purchase = world.fund("25.00")
    fresh = change_key(world)
    with pytest.raises(ConfigurationError, match="rotate begin"):
        world.buy("5.00")
    rotation = world.coordinator.opened.rotation
    assert rotation.begin(by="olga")
    assert not rotation.begin(by="olga")
    world.chain.deliver(purchase.escrow_id)
    world.go()
    assert world.coordinator.settle(purchase.id, approver="alice").done
    world.go()
    assert world.status(purchase) == "settled"
    bought = world.fund("5.00")
    assert world.chain.receipt(bought.transactions[0].hash)["from"] == fresh.lower()
    assert world.chain.balance(world.treasury) == Usdc("970")
    world.check_books()
    assert verify(world.wiring.audit).ok


def test_a_key_with_a_transaction_in_flight_is_not_changed(world: World) -> None:
    world.buy_and_send("25.00")
    change_key(world)
    with pytest.raises(InvalidRequest, match="1 transactions of"):
        world.coordinator.opened.rotation.begin(by="olga")


def test_whoever_edits_who_signs_is_found(world: World) -> None:
    world.fund("25.00")
    change_key(world)
    stranger = Account.create().address
    world.edit("UPDATE identity SET signer = ?", stranger)
    with pytest.raises(ConfigurationError, match="neither COORDINATOR_SIGNER nor"):
        world.coordinator.opened.rotation.begin(by="olga")
