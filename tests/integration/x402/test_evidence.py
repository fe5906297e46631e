"""What the chain tells of a payment for an HTTP request ends it, and nothing else does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from coordinator import Usdc
from coordinator.chain.abi import token_abi
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.purchase import PaymentAnswer
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import ZERO
from tests.integration.authorisations import Authorisation
from tests.integration.stores import on_either
from tests.integration.test_rebuild import export, lose
from tests.integration.test_reorg import finalise, reorganise
from tests.integration.world import AGENT, World
from tests.integration.x402.paying import Payer
from tests.integration.x402.taking import submit, take

pytestmark = on_either


@pytest.fixture
def payer(make_world: Callable[..., World]) -> Payer:
    return Payer(partial(make_world, finality="30"))


def ends_at(paid: PaymentAnswer) -> int:
    assert paid.payment is not None
    return int(paid.payment["payload"]["authorization"]["validBefore"])


def wallet_key(payer: Payer) -> str:
    return payer.world.secrets["X402_KEY"]


def paused(payer: Payer) -> list[str]:
    return [str(pause) for pause in payer.world.wiring.operations.pauses()]


def alarms(payer: Payer) -> int:
    ((count,),) = payer.world.rows("SELECT count(*) FROM notices WHERE kind = 'x402_unasked'")
    return int(count)


def test_a_payment_that_was_taken_is_settled_and_posted_once_final(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50", task="t")
    tx_hash = take(world.chain, paid)
    world.round()
    settled = world.get(paid.purchase)
    assert settled.status == "settled"
    assert (settled.paid_in, settled.provider_received, settled.spent) == (Usdc("0.50"),) * 3
    assert world.hold(settled) == ("held", ZERO)
    (entry,) = [e for e in world.entries() if e.kind == "x402"]
    assert (entry.tx_hash, entry.escrow_key) == (tx_hash, settled.escrow_key)
    assert entry.debit == f"address:{world.chain.provider.lower()}"
    assert entry.credit == f"own:{payer.wallet.lower()}"
    finalise(world)
    assert world.hold(settled) == ("posted", Usdc("0.50"))
    assert world.usage() == world.usage("agent", AGENT) == (ZERO, Usdc("0.50"))
    assert world.usage("task", "t") == (ZERO, Usdc("0.50"))
    assert world.coordinator.report().as_dict()["paid"] == "0.50"
    assert world.coordinator.task("t").report()["spent"] == "0.50"
    world.check_books()
    assert world.chain.balance(payer.wallet) == Usdc("19.50")
    assert not paused(payer) and not alarms(payer)


def test_what_is_taken_in_a_block_that_is_lost_is_open_again(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50")
    take(world.chain, paid)
    world.round()
    reorganise(world, 1)
    world.round()
    assert world.status(paid.purchase) == "approved"
    assert world.hold(paid.purchase) == ("held", ZERO)
    assert world.moves(paid.purchase) == []
    world.check_books()
    take(world.chain, paid)
    world.round()
    assert world.status(paid.purchase) == "settled"
    finalise(world)
    assert world.hold(paid.purchase) == ("posted", Usdc("0.50"))
    world.check_books()
    assert payer.signatures() == 1


def test_a_payment_that_nobody_took_fails_once_nobody_can(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50")
    world.pass_time_until(ends_at(paid) - 1)
    finalise_at(world)
    assert world.status(paid.purchase) == "approved"
    assert world.hold(paid.purchase) == ("held", ZERO)
    # A block at the last second is not final yet, and in the one before it could be taken.
    world.pass_time_until(max(ends_at(paid), world.chain.time + 1))
    world.round()
    assert world.status(paid.purchase) == "approved"
    finalise(world)
    failed = world.get(paid.purchase)
    assert failed.status == "failed"
    assert failed.reason is not None
    assert failed.reason.code is ReasonCode.AUTHORISATION_UNUSED
    assert world.hold(failed) == ("voided", ZERO)
    world.check_nothing_spent()
    world.check_books()
    refused = submit(world.chain, paid)
    world.chain.mine()
    assert int(world.chain.receipt(refused)["status"], 16) == 0


def finalise_at(world: World) -> None:
    """Make what is final by now final in the books, without any time."""
    world.round()
    world.round()


def test_a_payment_that_was_not_signed_in_time_fails(payer: Payer) -> None:
    world = payer.world
    asked = payer.ask("0.50").purchase
    world.coordinator.pause("look", by="olga")
    world.pass_time(3000)
    world.round()
    assert world.status(asked) == "approved"
    world.pass_time(601)
    world.round()
    failed = world.get(asked)
    assert failed.status == "failed" and failed.reason is not None
    assert failed.reason.message == "no authorisation could be signed in time"
    world.check_nothing_spent()
    world.check_books()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE authorisations SET valid_before = 1",
        "UPDATE authorisations SET signature = NULL, valid_before = NULL",
    ],
)
def test_an_edited_row_frees_nothing(payer: Payer, statement: str) -> None:
    world = payer.world
    paid = payer.pay("0.50", maxTimeoutSeconds=600)
    world.edit(statement)
    world.edit("UPDATE purchases SET approved_at = 1")
    finalise(world)
    assert world.hold(paid.purchase) == ("held", ZERO)
    with contextlib.suppress(LedgerTampered):
        assert not world.coordinator.cancel(paid.purchase.id, by="olga").done
    assert world.hold(paid.purchase) == ("held", ZERO)


def test_a_payment_taken_after_it_had_failed_is_held_again_and_told(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50")
    snapshot = world.chain.rpc.call("evm_snapshot")
    world.pass_time_until(ends_at(paid))
    finalise(world)
    assert world.status(paid.purchase) == "failed"
    # The chain is another one, with more blocks, in which it was taken in time.
    assert world.chain.rpc.call("evm_revert", snapshot) is True
    world.chain.rpc.call("evm_setNextBlockTimestamp", world.chain.time + 1)
    take(world.chain, paid)
    world.chain.mine(40)
    world.round()
    assert world.status(paid.purchase) == "settled"
    assert world.hold(paid.purchase) == ("held", ZERO)
    assert "organisation" in paused(payer)
    assert world.rows("SELECT 1 FROM audit WHERE event = 'contradiction'")
    finalise(world)
    assert world.hold(paid.purchase) == ("posted", Usdc("0.50"))


def test_a_task_that_is_closed_leaves_what_is_signed(payer: Payer) -> None:
    world = payer.world
    task = world.coordinator.open_task("t", by="olga", limits={"total_limit": "5"})
    paid = payer.pay("0.50", task="t")
    task.close()
    assert world.status(paid.purchase) == "approved"
    take(world.chain, paid)
    finalise(world)
    assert world.hold(paid.purchase) == ("posted", Usdc("0.50"))
    world.check_books()


def test_a_payment_that_nobody_asked_for_counts_and_stops_payments(payer: Payer) -> None:
    world = payer.world
    theft = Authorisation(world.chain, wallet_key(payer), world.chain.stranger, Usdc("3.00"))
    theft.use()
    world.round()
    assert paused(payer) == ["x402"] and alarms(payer) == 1
    assert world.usage() == (Usdc("3.00"), ZERO)
    world.round()
    finalise(world)
    assert world.usage() == (ZERO, Usdc("3.00")) and alarms(payer) == 1
    assert [kind for kind, _ in world.discrepancies()] == ["unknown_escrow"]
    denied = payer.ask("0.50").purchase
    assert denied.reason is not None and denied.reason.code is ReasonCode.PAUSED
    assert world.buy().status == "approved"
    assert world.coordinator.unpause("its key is changed", by="alice", x402=True)
    assert not paused(payer) and payer.ask("0.50", key="two").purchase.status == "approved"
    again = Authorisation(world.chain, wallet_key(payer), world.chain.stranger, Usdc("1.00"))
    again.use()
    world.round()
    assert alarms(payer) == 2 and paused(payer) == ["x402"]


def test_usdc_that_leaves_without_an_authorisation_stops_payments(payer: Payer) -> None:
    world = payer.world
    data = token_abi().call("transfer", world.chain.stranger, Usdc("2.00").base_units)
    world.chain.rpc.call("anvil_setBalance", payer.wallet, hex(10**18))
    with world.chain.as_account(payer.wallet):
        world.chain.act(payer.wallet, world.chain.deployment.usdc, data)
    world.round()
    world.round()
    assert paused(payer) == ["x402"] and alarms(payer) == 1
    assert ("outflow", "2.00") in world.moves()


def test_another_payment_under_a_known_nonce_is_not_the_purchase(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50")
    other = Authorisation(
        world.chain,
        wallet_key(payer),
        world.chain.stranger,
        Usdc("0.50"),
        nonce=paid.purchase.escrow_key,
    )
    other.use()
    finalise(world)
    assert world.status(paid.purchase) == "approved"
    assert paused(payer) == ["x402"] and alarms(payer) == 1
    assert world.hold(paid.purchase) == ("held", ZERO)


@pytest.mark.parametrize("name", ["escrow_id", "escrow_key"])
def test_a_nonce_that_is_an_escrows_changes_nothing_of_it(payer: Payer, name: str) -> None:
    world = payer.world
    world.chain.rpc.call("evm_setAutomine", False)
    bought = world.fund("5.00")
    ((nonce,),) = world.rows(f"SELECT {name} FROM escrows")
    theft = Authorisation(
        world.chain, wallet_key(payer), world.chain.stranger, Usdc("1.00"), nonce=nonce
    )
    theft.use()
    finalise(world)
    assert world.status(bought) == "funded"
    assert world.get(bought).paid_in == Usdc("5.00")
    assert paused(payer) == ["x402"]
    world.chain.mine(35)
    world.round()
    assert world.wiring.books.final() is not None


def test_a_lost_database_finds_what_was_paid(payer: Payer, tmp_path: Path) -> None:
    world = payer.world
    runs = {"task": "t", "session": "s"}
    taken, waiting = payer.pay("0.50", key="a", **runs), payer.pay("0.25", key="b", **runs)
    take(world.chain, taken)
    finalise(world)
    file = export(world, tmp_path / "audit.jsonl")
    take(world.chain, waiting)
    world.chain.mine(30)
    world.change_host()
    lose(world)
    assert not world.coordinator.rebuild(audit=file).discrepancies
    for paid in (taken, waiting):
        assert world.status(paid.purchase) == "settled"
    finalise(world)
    assert world.usage() == (ZERO, Usdc("0.75"))
    assert world.usage("x402_task", "t") == world.usage("x402_session", "s") == world.usage()
    world.check_books()


def test_a_lost_database_leaves_open_what_can_still_be_taken(payer: Payer, tmp_path: Path) -> None:
    world = payer.world
    taken, unused = payer.pay("0.50", key="a"), payer.pay("0.25", key="b")
    file = export(world, tmp_path / "audit.jsonl")
    world.change_host()
    lose(world)
    assert not world.coordinator.rebuild(audit=file).discrepancies
    world.unpause()
    for key, paid in (("a", taken), ("b", unused)):
        again = payer.ask(paid.purchase.amount, key=key)
        assert again.purchase.status == "approved" and again.payment is None
        assert not world.coordinator.cancel(paid.purchase.id, by="olga").done
    world.round()
    assert payer.signatures() == 2
    take(world.chain, taken)
    world.next_block_at(ends_at(unused))
    finalise(world)
    assert world.status(taken.purchase) == "settled"
    ended = world.get(unused.purchase)
    assert ended.reason is not None and ended.reason.code is ReasonCode.AUTHORISATION_UNUSED
    assert world.usage() == (ZERO, Usdc("0.50"))
    world.check_books()


def test_a_payment_known_from_the_chain_alone_is_its_agents_once_asked_for(payer: Payer) -> None:
    world = payer.world
    paid = payer.pay("0.50")
    take(world.chain, paid)
    world.chain.mine(30)
    world.change_host()
    lose(world)
    found = world.coordinator.rebuild().discrepancies
    assert [d.kind for d in found] == ["unknown_escrow"]
    assert world.usage() == (Usdc("0.50"), ZERO) and "x402" in paused(payer)
    again = payer.ask("0.50")
    assert again.purchase.status == "settled" and again.payment is None
    finalise(world)
    assert world.usage("agent", AGENT) == (ZERO, Usdc("0.50"))
    assert payer.signatures() == 0
    world.check_books()
