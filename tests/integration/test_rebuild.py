"""The chain alone gives journal and escrows again, and nothing is bought twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import ConfigurationError, Coordinator, Usdc
from coordinator.domain.chain_events import EscrowState
from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.journal import Entry
from coordinator.domain.steps import StepKind
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both
from tests.integration.world import AGENT, World

pytestmark = on_both

HOUR = 3600
OTHER_TERMS = pytest.mark.parametrize("terms", [{"amount": "26.00"}, {"service": "other"}])


def lives(world: World) -> dict[str, str]:
    """Purchases in many states, by key: journal entries of every kind but the opening's."""
    chain = world.chain
    names = ("settled", "refunded", "lost", "won", "funded", "reclaimed", "delivered")
    made = {name: world.buy("20.00", idempotency_key=name) for name in names}
    world.go()
    world.send_usdc_away("1.00")
    chain.mine()
    world.round()
    world.unpause()
    unfunded = world.buy("30.00", idempotency_key="unfunded")
    world.round()
    chain.set_allowance(world.treasury, ZERO)
    world.go()
    assert world.status(unfunded) == "cancelled"
    ids = {name: world.get(p).escrow_id for name, p in made.items()}
    chain.move(chain.provider, ids["refunded"], EscrowState.CANCELLED)
    for name in ("settled", "lost", "won", "delivered"):
        chain.deliver(ids[name])
    world.go()
    world.coordinator.settle(made["settled"].id, approver="alice")
    for name in ("lost", "won"):
        world.coordinator.dispute(made[name].id, approver="alice", reason="a test")
    world.go()
    chain.resolve(ids["lost"], requester="5.00", provider="15.00", provider_at_fault=False)
    chain.resolve(ids["won"], requester="20.00", provider="0.00", provider_at_fault=True)
    deadline = world.get(made["reclaimed"]).deadline
    assert deadline is not None
    chain.start(ids["funded"])
    world.pass_time_until(deadline)
    world.go()
    wanted = {
        "settled": "settled",
        "refunded": "cancelled",
        "lost": "settled",
        "won": "settled",
        "funded": "started",
        "reclaimed": "cancelled",
        "delivered": "delivered",
    }
    assert {name: world.status(p) for name, p in made.items()} == wanted
    return wanted


def all_entries(coordinator: Coordinator) -> list[Entry]:
    return list(coordinator.wiring.journal.entries())


def test_the_chain_alone_gives_the_same_journal_again(world: World) -> None:
    lives(world)
    before = all_entries(world.coordinator)
    assert {entry.kind.value for entry in before} == {
        "opening",
        "deposit",
        "outflow",
        "fund",
        "payout",
        "fee",
        "penalty",
        "refund",
        "bond",
        "bond_return",
        "bond_loss",
    }
    fresh = world.open(world.store.url("fresh"))
    fresh.wiring.follower.advance(world.chain.height)
    assert all_entries(fresh) == before


def test_block_by_block_or_all_at_once_the_journal_is_the_same(world: World) -> None:
    lives(world)
    slow = world.open(world.store.url("slow"))
    for number in range(world.chain.height + 1):
        slow.wiring.follower.advance(number)
    assert all_entries(slow) == all_entries(world.coordinator)


def test_a_lost_database_is_rebuilt_paused_and_agrees_with_the_chain(world: World) -> None:
    wanted = lives(world)
    before, usage = all_entries(world.coordinator), world.usage()
    world.restart(world.store.url("rebuilt"))
    world.database = world.store.url("rebuilt")
    assert [d.kind for d in world.coordinator.rebuild().discrepancies] == ["unexplained_outflow"]
    assert all_entries(world.coordinator) == before
    held, spent = world.usage()
    assert held + spent >= usage[0]
    denied = world.buy("1.00")
    assert denied.denied and denied.reason and denied.reason.code == "paused"
    world.go()
    # Nobody can be asked for what the chain does not have: bonds and agents.
    statuses = sorted(p.status.value for p in world.coordinator.purchases() if not p.denied)
    assert statuses == sorted(wanted.values())
    assert world.usage()[0] == usage[0]
    assert not world.coordinator.unpause("it was me", by=AGENT)
    assert world.coordinator.unpause("checked", by="alice")
    assert world.fund("1.00").status == "funded"


def test_only_a_fresh_database_is_rebuilt(world: World) -> None:
    world.fund()
    with pytest.raises(ConfigurationError, match="fresh database"):
        world.coordinator.rebuild()


def test_after_a_rebuild_the_same_key_adopts_its_escrow_and_buys_nothing(world: World) -> None:
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    creates, nonce = chain.kernel("requesterNonces", world.treasury), chain.nonce(world.treasury)
    world.database = world.store.url("rebuilt")
    world.restart(world.database)
    assert world.coordinator.rebuild().discrepancies == ()
    (unattributed,) = world.coordinator.purchases()
    assert (unattributed.agent, unattributed.status) == (None, "funded")
    assert world.usage() == (Usdc("25"), ZERO)
    assert world.usage("agent", AGENT) == (ZERO, ZERO)
    world.coordinator.unpause("checked", by="alice")

    with pytest.raises(IdempotencyConflict, match=r"was used on chain for 25\.00 USDC"):
        world.buy("26.00", idempotency_key="papers")
    again = world.buy("25.00", idempotency_key="papers")
    assert (again.id, again.status, again.escrow_id, again.agent) == (
        unattributed.id,
        "funded",
        bought.escrow_id,
        AGENT,
    )
    assert world.buy("25.00", idempotency_key="papers").id == again.id
    world.go()
    assert chain.kernel("requesterNonces", world.treasury) == creates
    assert chain.nonce(world.treasury) == nonce
    assert chain.balance(world.treasury) == Usdc("975")
    assert world.usage() == world.usage("agent", AGENT) == (Usdc("25"), ZERO)
    world.check_books()
    chain.deliver(bought.escrow_id, window_seconds=HOUR)
    world.pass_time(HOUR + 1)
    world.go()
    assert world.status(again) == "settled"
    world.check_books()


def test_without_a_rebuild_the_events_are_read_before_anything_is_created(world: World) -> None:
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    world.database = world.store.url("fresh")
    world.restart(world.database)
    again = world.buy("25.00", idempotency_key="papers")
    assert again.status == "approved"
    world.go()
    assert (world.status(again), world.get(again).escrow_id) == ("funded", bought.escrow_id)
    assert chain.kernel("requesterNonces", world.treasury) == 1
    assert chain.balance(chain.deployment.vault) == Usdc("25")
    world.check_books()


def ask_with_other_terms(world: World, database: str, terms: dict[str, str]) -> tuple[str, str]:
    """Fund under a key, lose the database, ask the same key otherwise; (first escrow, purchase)."""
    bought = world.fund("25.00", idempotency_key="papers")
    world.database = database
    world.restart(database)
    asked = world.buy(**({"amount": "25.00", "idempotency_key": "papers"} | terms))
    world.go()
    assert bought.escrow_id is not None
    return bought.escrow_id, asked.id


@OTHER_TERMS
def test_a_key_asked_again_with_other_terms_never_takes_the_first_escrow(
    world: World, terms: dict[str, str]
) -> None:
    first, asked = ask_with_other_terms(world, world.store.url("fresh"), terms)
    cancelled = world.coordinator.get(asked)
    assert cancelled.status == "cancelled"
    assert cancelled.reason is not None
    assert "Escrow ID already used" in cancelled.reason.message
    assert cancelled.escrow_id != first
    assert world.chain.balance(world.chain.deployment.vault) == Usdc("25")
    (found,) = world.coordinator.reconcile().discrepancies
    assert (found.kind, found.amount, found.escrow_id) == ("unknown_escrow", Usdc("25"), first)


@OTHER_TERMS
def test_what_an_unowned_escrow_took_is_not_posted_to_the_purchase_of_its_key(
    world: World, terms: dict[str, str]
) -> None:
    _, asked = ask_with_other_terms(world, world.store.url("fresh"), terms)
    assert world.coordinator.get(asked).spent == ZERO
    world.check_nothing_spent()


@pytest.mark.parametrize("moment", ["approved", "sent"])
def test_a_restored_backup_does_not_buy_again(world: World, moment: str) -> None:
    chain = world.chain
    world.fund("1.00")
    asked = world.buy("25.00") if moment == "approved" else world.buy_and_send("25.00")
    backup = world.store.copy(world.database, "backup")
    world.go()
    chain.deliver(world.get(asked).escrow_id)
    nonce = chain.nonce(world.treasury)
    world.database = backup
    # Whoever acted when it was made does so no more.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.restart(world.database)
    assert world.status(asked) == "approved"
    world.go()
    assert world.status(asked) == "delivered"
    assert chain.nonce(world.treasury) == nonce
    assert world.usage() == (Usdc("26"), ZERO)
    world.check_books()


def test_a_second_funding_is_refused_by_the_kernel_and_the_first_is_adopted(
    make_world: Callable[..., World],
) -> None:
    world = make_world(confirmations="3")
    chain = world.chain
    bought = world.fund("25.00", idempotency_key="papers")
    assert world.status(bought) == "funded"
    # A fresh database reads only what is three blocks deep: it can't see the first one yet.
    link = next(t for t in bought.transactions if t.step == "link")
    assert link.block is not None
    chain.rpc.call("anvil_rollback", chain.height - link.block)
    world.database = world.store.url("fresh")
    world.restart(world.database)
    again = world.buy("25.00", idempotency_key="papers")
    world.round()
    assert [step.kind for step in world.in_flight()][-2:] == [StepKind.CREATE, StepKind.LINK]
    world.go()
    adopted = world.get(again)
    assert (adopted.status, adopted.escrow_id) == ("funded", bought.escrow_id)
    refused = world.rows("SELECT revert_reason FROM steps WHERE status = 'reverted'")
    assert refused == [("Escrow ID already used",)]
    states = world.rows("SELECT escrow_id, state FROM escrows ORDER BY seq")
    assert [state for _, state in states] == ["funded", "cancelled"]
    assert chain.state(states[1][0]) is EscrowState.CANCELLED
    assert chain.balance(chain.deployment.vault) == Usdc("25")
    assert world.usage() == (Usdc("25"), ZERO)
    chain.mine(3)
    world.go()
    world.check_books()
