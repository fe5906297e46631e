"""Forged rows of attempts and steps, and a pause cut out while calls wait to be signed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account

from coordinator import Purchase
from coordinator.domain.ports import KillPoint
from tests.chaos.test_lane import Killed, die
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_both
from tests.integration.test_tampering import THIEF, paused, rounds
from tests.integration.world import World

pytestmark = on_both

# A well-known development key.
_THIEFS_KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"


@pytest.fixture(autouse=True)
def _base_fee_as_before(chain: LocalChain) -> Iterator[None]:
    """Taking the chain back does not take its next base fee back."""
    yield
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(1_000_000))


def allocated(world: World) -> Purchase:
    """A purchase whose calls have nonces, and were not signed when the worker died."""
    world.fund("1.00")
    asked = world.buy("25.00")
    world.at(KillPoint.STEPS_ALLOCATED, die)
    with pytest.raises(Killed):
        world.round()
    world.restart()
    return asked


def forge_attempts(world: World) -> None:
    """Bytes of a stranger that nodes take and can't mine yet, as if they were of the calls."""
    for number, (step_id,) in enumerate(
        world.rows("SELECT id FROM steps WHERE status = 'allocated' ORDER BY nonce")
    ):
        raw = Account.from_key(_THIEFS_KEY).sign_transaction(
            {
                "chainId": world.wiring.deployment.chain_id,
                "nonce": world.chain.nonce(THIEF) + 9 + number,
                "to": THIEF,
                "value": 0,
                "gas": 21_000,
                "maxFeePerGas": 2_000_000,
                "maxPriorityFeePerGas": 1,
            }
        )
        world.edit(
            "INSERT INTO attempts (hash, step_id, raw, max_fee_per_gas, max_priority_fee_per_gas,"
            " signed_at, fills) VALUES (?, ?, ?, 2, 1, 0, 0)",
            "0x" + raw.hash.hex().removeprefix("0x"),
            step_id,
            "0x" + raw.raw_transaction.hex().removeprefix("0x"),
        )
    world.edit("UPDATE steps SET status = 'signed' WHERE status = 'allocated'")


def test_bytes_that_were_never_signed_do_not_stand_for_a_signature(world: World) -> None:
    asked = allocated(world)
    before = world.chain.balance(world.treasury)
    assert world.coordinator.pause("stop", by="olga")
    forge_attempts(world)
    world.round()
    # Dearer bytes are wanted now, of what a node is believed to have.
    rounds(world)

    assert world.chain.balance(world.treasury) == before
    assert world.status(asked) == "approved"
    assert world.rows("SELECT kind FROM steps WHERE given_up = 1") != []


def test_a_pause_cut_out_while_calls_wait_to_be_signed_still_stops_them(world: World) -> None:
    asked = allocated(world)
    before = world.chain.balance(world.treasury)
    assert world.coordinator.pause("stop", by="olga", provider="paper-api")
    assert world.buy("1001.00").denied
    # The worker has seen the pause, and could not sign: no fees were known.
    assert world.executor._checkpoint.advance(now=world.clock())
    world.edit("DELETE FROM audit WHERE event = 'paused'")
    world.edit("DELETE FROM pauses")
    rounds(world)
    assert world.chain.balance(world.treasury) == before
    assert world.status(asked) != "funded"


@pytest.mark.parametrize("mac", ["mac", "''"])
def test_a_step_far_ahead_fills_no_nonces(world: World, mac: str) -> None:
    world.fund("1.00")
    nonce = world.chain.nonce(world.treasury)
    world.edit(
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        f" created_at, mac) SELECT chain_id, signer, nonce + 300, 'fill', 'mined', recipient,"
        f" data, gas_limit, created_at, {mac} FROM steps"
        " WHERE nonce = (SELECT max(nonce) FROM steps)"
    )
    rounds(world)
    assert world.chain.nonce(world.treasury) - nonce <= 2
    assert "nonce" in paused(world)
