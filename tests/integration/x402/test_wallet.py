"""The wallet of x402 payments: an account of the journal, and a balance that decisions know."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator import ConfigurationError, Usdc
from coordinator.chain.abi import token_abi
from coordinator.config import Secrets, load_settings
from coordinator.domain.chain.accounts import OwnAccount
from coordinator.wiring import Wiring
from tests.integration.stores import on_either
from tests.integration.test_rebuild import export, lose
from tests.integration.world import World

X402_KEY = "X402_PRIVATE_KEY"


def with_wallet(make_world: Callable[..., World]) -> World:
    key = "0x" + secrets.token_hex(32)
    return make_world(more_secrets={X402_KEY: key}, x402_signer=f"env:{X402_KEY}")


def wallet_of(world: World) -> str:
    found = world.wiring.wallet
    assert found is not None
    return found


def send(world: World, sender: str, to: str, usdc: str) -> str:
    """Move USDC by a transfer of the sender's, and have it mined."""
    data = token_abi().call("transfer", to, Usdc(usdc).base_units)
    world.chain.rpc.call("anvil_setBalance", sender, hex(10**18))
    with world.chain.as_account(sender):
        tx_hash = world.chain.send(sender, world.chain.deployment.usdc, data)
        world.chain.mine()
    assert int(world.chain.receipt(tx_hash)["status"], 16) == 1
    return tx_hash


@on_either
def test_its_usdc_is_followed_and_seen(make_world: Callable[..., World]) -> None:
    world = with_wallet(make_world)
    wallet = wallet_of(world)
    world.round()
    assert [a.wallet for a in world.wiring.books.accounts()] == [False, True]
    send(world, world.treasury, wallet, "30.00")
    world.chain.set_balance(world.chain.stranger, Usdc("9.00"))
    send(world, world.chain.stranger, wallet, "2.00")
    world.round()
    assert world.moves()[-2:] == [("internal", "30.00"), ("deposit", "2.00")]
    seen = world.wiring.operations.balances(wallet)
    assert seen is not None
    assert seen.usdc_balance == Usdc("32.00") == world.chain.balance(wallet)
    treasury = world.wiring.operations.balances(world.treasury)
    assert treasury is not None
    assert treasury.usdc_balance == Usdc("970.00")
    figures = world.wiring.figures.read().balances
    assert figures is not None
    assert figures.usdc == Usdc("970.00")
    world.check_books()


def test_a_treasury_that_lives_already_follows_it_from_the_next_block(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.round()
    world.secrets[X402_KEY] = "0x" + secrets.token_hex(32)
    world.restart(x402_signer=f"env:{X402_KEY}")
    wallet = wallet_of(world)
    send(world, world.treasury, wallet, "5.00")
    world.round()
    books = world.wiring.books.cursor()
    assert books is not None
    first = books.number + 1
    send(world, world.treasury, wallet, "6.00")
    world.chain.mine(2)
    world.round()
    assert world.wiring.books.accounts()[1] == OwnAccount(wallet, first, place=1, wallet=True)
    assert {"opening", "outflow", "internal"} <= {kind for kind, _ in world.moves()}
    assert world.wiring.journal.account_balances([wallet])[wallet] == Usdc("11.00")
    world.restart()
    world.round()
    assert len(world.wiring.books.accounts()) == 2


def test_a_rebuilt_database_follows_it_from_the_beginning(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world()
    world.round()
    file = export(world, tmp_path / "audit.jsonl")
    world.secrets[X402_KEY] = "0x" + secrets.token_hex(32)
    world.restart(x402_signer=f"env:{X402_KEY}")
    wallet = wallet_of(world)
    send(world, world.treasury, wallet, "5.00")
    world.change_host()
    lose(world)
    assert world.coordinator.rebuild(audit=file).discrepancies == ()
    assert [(a.address, a.first_block) for a in world.wiring.books.accounts()] == [
        (world.treasury, 0),
        (wallet, 0),
    ]
    assert ("internal", "5.00") in world.moves()


@pytest.mark.parametrize("spec", ["env:TREASURY_PRIVATE_KEY", "address:{treasury}"])
def test_it_is_not_the_treasury(world: World, spec: str) -> None:
    with pytest.raises(ConfigurationError, match="a wallet of their own"):
        world.restart(x402_signer=spec.format(treasury=world.treasury)).wiring  # noqa: B018


def test_a_key_in_the_environment_is_refused_on_base() -> None:
    given = {"COORDINATOR_NETWORK": "base", "COORDINATOR_X402_SIGNER": f"env:{X402_KEY}"}
    known = {"COORDINATOR_SIGNER": "address:0x" + "11" * 20}
    wiring = Wiring(load_settings(given | known), Secrets({X402_KEY: "0x" + "22" * 32}))
    with pytest.raises(ConfigurationError, match="COORDINATOR_X402_SIGNER=env:… is refused"):
        wiring.x402_signer  # noqa: B018


def test_nobody_has_to_have_one(world: World) -> None:
    assert world.wiring.x402_signer is None
    world.round()
    assert len(world.rows("SELECT treasury FROM observations")) == 1
