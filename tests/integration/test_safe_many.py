"""Many purchases at once from a Safe: funded within few blocks, ended in every way, rebuilt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either
LARGE = pytest.param(200, 3, marks=pytest.mark.campaign)


@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (10, 1), LARGE])
def test_all_that_is_asked_at_once_is_funded_within_blocks(
    make_safe_world: Callable[..., World], count: int, blocks: int
) -> None:
    world = make_safe_world()
    chain, first = world.chain, world.chain.height
    asked = [world.buy("1.00", task=f"t{n}") for n in range(count)]
    assert {p.status for p in asked} == {"approved"}
    for _ in range(blocks):
        world.round()
        chain.mine()
    world.round()
    purchases = [world.get(p) for p in asked]
    assert {p.status for p in purchases} == {"funded"}
    mined = {t.block for p in purchases for t in p.transactions}
    assert mined <= set(range(first + 1, first + blocks + 1))
    assert len({p.escrow_id for p in purchases}) == count
    assert chain.balance(chain.deployment.vault) == Usdc(str(count))
    assert chain.kernel("requesterNonces", world.treasury) == count
    assert chain.allowance(world.treasury) == ZERO
    assert world.usage() == world.usage("agent", AGENT) == (Usdc(str(count)), ZERO)
    world.check_books()


def test_a_batch_ends_in_every_way_and_is_rebuilt_from_the_chain_alone(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    chain = world.chain
    names = ("settled", "refunded", "reclaimed", "lost", "won", "funded", "cancelled")
    made = {name: world.buy("20.00", idempotency_key=name) for name in names}
    assert world.coordinator.cancel(made["cancelled"].id, by="alice").done
    world.go()
    ids = {name: world.get(p).escrow_id for name, p in made.items()}
    hashes = {t.hash for p in made.values() for t in world.get(p).transactions}
    assert len(hashes) == 1
    chain.move(chain.provider, ids["refunded"], EscrowState.CANCELLED)
    for name in ("settled", "lost", "won"):
        chain.deliver(ids[name])
    world.go()
    world.coordinator.settle(made["settled"].id, approver="alice")
    for name in ("lost", "won"):
        assert world.coordinator.dispute(made[name].id, approver="alice", reason="a test").done
    world.go()
    assert [world.status(made[name]) for name in ("settled", "lost", "won")] == [
        "settled",
        "disputed",
        "disputed",
    ]
    chain.resolve(ids["lost"], requester="5.00", provider="15.00", provider_at_fault=False)
    chain.resolve(ids["won"], requester="20.00", provider="0.00", provider_at_fault=True)
    chain.start(ids["funded"])
    deadline = world.get(made["reclaimed"]).deadline
    assert deadline is not None
    world.pass_time_until(deadline)
    world.go()
    assert {name: world.status(p) for name, p in made.items()} == {
        "settled": "settled",
        "refunded": "cancelled",
        "reclaimed": "cancelled",
        "lost": "settled",
        "won": "settled",
        "funded": "started",
        "cancelled": "cancelled",
    }
    assert world.get(made["cancelled"]).transactions == ()
    # Of what was reclaimed the kernel keeps a twentieth, and of what was lost its bond.
    assert (world.get(made["refunded"]).spent, world.get(made["won"]).spent) == (ZERO, ZERO)
    assert world.get(made["reclaimed"]).spent == Usdc("1")
    world.check_books()

    before, spent = world.entries(), world.usage()
    held = {p.escrow_id: p.status for p in map(world.get, made.values()) if p.escrow_id}
    world.restart(world.store.url("rebuilt"))
    found = world.coordinator.rebuild().discrepancies
    # Without the audit log nobody is known to have asked, and nothing else differs.
    assert {d.kind for d in found} == {"unknown_escrow"}
    assert world.entries() == before
    world.go()
    assert {p.escrow_id: p.status for p in world.coordinator.purchases()} == held
    assert world.usage()[0] == spent[0]
    assert world.coordinator.unpause("checked", by="alice")
    assert world.fund("1.00").status == "funded"


def test_an_executor_that_takes_over_sends_what_the_first_signed_and_nothing_twice(
    make_safe_world: Callable[..., World],
) -> None:
    world = make_safe_world()
    asked = [world.buy("5.00", task=f"t{n}") for n in range(30)]
    world.round()
    sent = [step.to_send.hash for step in world.in_flight() if step.to_send]
    world.chain.rpc.call("anvil_dropAllTransactions")
    first = world.coordinator
    # Whoever acted stands still; its lease ends.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.change_host()
    world.coordinator = world.open()
    world.round()
    assert [tx["hash"] for tx in world.chain.pool(world.signer)] == sent
    # It wakes, and both act on what they know.
    world.edit("UPDATE leases SET expires_at_ms = 0")
    first.wiring.executor.run_once()
    world.edit("UPDATE leases SET expires_at_ms = 0")
    world.go()
    assert {world.status(p) for p in asked} == {"funded"}
    assert world.chain.nonce(world.signer) == len(sent)
    assert world.chain.balance(world.treasury) == Usdc("850")
    world.check_books()
