"""A worker funds what a certified host decided, and nothing that a revoked one did."""

from __future__ import annotations

import pytest

from coordinator import Coordinator
from coordinator.chain.abi import token_abi
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.proofs.step_digest import STEP
from coordinator.ledger.proofs.verification import verify
from tests.integration import stores
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either


@pytest.fixture
def server(world: World) -> Coordinator:
    """A process without the treasury's key, whose host the worker has certified."""
    world.round()
    server = world.open(
        signer=f"address:{world.treasury}",
        state_folder=str(world.folder / "server"),
        host_name="server",
    )
    own = server.opened.own_host
    world.wiring.hosts.add(own.name, own.key.public_key, by="olga", now=world.clock())
    return server


def revoke(world: World) -> str:
    host = world.wiring.hosts.revoke("server", reason="stolen", by="olga", now=world.clock())
    return host.id


def ask(server: Coordinator, amount: str = "25.00", key: str | None = None) -> Purchase:
    agent = server.agent("research-agent")
    return agent.purchase(
        provider="paper-api", amount=amount, purpose="a test", wait=False, idempotency_key=key
    )


def create_steps(world: World, purchase: Purchase) -> list[str]:
    return [step.call.kind.value for step in world.steps_of(purchase)]


def check_stranded(world: World, purchase: Purchase, host: str) -> None:
    found = world.get(purchase)
    assert found.stranded is not None
    assert f"host {host} decided it and was revoked" in found.stranded.message
    kinds = world.rows("SELECT kind FROM notices WHERE subject = ?", purchase.id)
    assert ("purchase_stranded",) in kinds
    assert not world.wiring.operations.pauses()


def test_what_a_certified_host_decides_is_funded_by_the_worker(
    world: World, server: Coordinator
) -> None:
    purchase = ask(server)

    world.go()

    assert world.status(purchase) == "funded"
    world.check_books()


def test_what_a_revoked_host_decided_is_not_funded_and_says_why(
    world: World, server: Coordinator
) -> None:
    purchase, before = ask(server), world.chain.balance(world.treasury)
    host = revoke(world)

    world.round()
    world.go()

    check_stranded(world, purchase, host)
    assert create_steps(world, purchase) == []
    assert world.chain.balance(world.treasury) == before
    assert verify(world.wiring.audit).ok


def test_others_are_funded_meanwhile_and_people_ask_again(
    world: World, server: Coordinator
) -> None:
    doubted = ask(server, key="papers")
    revoke(world)
    other = world.buy("5.00")
    world.round()
    world.go()
    assert world.status(other) == "funded"

    assert world.coordinator.cancel(doubted.id, by="alice").done
    again = world.buy("25.00")
    world.go()

    assert world.status(doubted) == "cancelled"
    assert world.get(doubted).stranded is None
    assert world.status(again) == "funded"
    world.check_books()


def test_what_nobody_cancels_fails_in_time(world: World, server: Coordinator) -> None:
    purchase = ask(server)
    revoke(world)
    world.round()

    world.pass_time(3601)
    world.go()

    assert world.status(purchase) == "failed"
    assert world.hold(purchase)[0] == "voided"


def test_an_approval_by_a_revoked_host_funds_nothing(world: World, server: Coordinator) -> None:
    waiting = world.buy("500.00")
    server.approve(waiting.approval_id, approver="alice")
    host = revoke(world)

    world.round()
    world.go()

    check_stranded(world, waiting, host)


@pytest.mark.parametrize("point", [KillPoint.STEPS_ALLOCATED, KillPoint.ATTEMPTS_SIGNED])
def test_a_host_that_is_revoked_while_its_purchase_is_signed_funds_nothing(
    world: World, server: Coordinator, point: KillPoint
) -> None:
    purchase, before = ask(server), world.chain.balance(world.treasury)
    world.at(point, lambda: revoke(world))

    for _ in range(4):
        world.round()
        world.chain.mine()

    assert world.get(purchase).stranded is not None
    assert world.chain.balance(world.treasury) == before


def test_what_was_linked_before_goes_on(world: World, server: Coordinator) -> None:
    purchase = ask(server)
    world.round()
    revoke(world)

    world.go()

    assert world.status(purchase) == "funded"


def test_a_link_whose_bytes_were_signed_before_is_sent_again(
    world: World, server: Coordinator
) -> None:
    purchase, before = ask(server), world.chain.balance(world.treasury)
    world.round()
    lost = world.hold_back(lambda step: step.call.kind.value == "link")
    world.chain.mine()
    assert lost
    # Its bytes are signed: nodes may have them, so they are sent again whatever came after.
    revoke(world)
    world.go()

    assert world.status(purchase) == "funded"
    assert world.chain.balance(world.treasury) < before


def test_an_early_settlement_that_a_revoked_host_ordered_waits_for_the_window(
    world: World, server: Coordinator
) -> None:
    purchase = world.fund("5.00")
    world.chain.deliver(purchase.escrow_id)
    world.go()
    server.settle(purchase.id, approver="alice")
    revoke(world)

    world.go()
    assert world.status(purchase) == "delivered"
    world.pass_time(49 * 3600)
    world.go()
    assert world.status(purchase) == "settled"


def test_a_withdrawal_that_a_revoked_host_ordered_fails(world: World, server: Coordinator) -> None:
    before = world.chain.balance(world.treasury)
    order = server.withdraw(
        to=world.chain.stranger,
        amount="10.00",
        approver="alice",
        reason="a test",
        timeout_seconds=0,
    )
    revoke(world)

    world.round()
    world.go()

    (found,) = world.wiring.operations.orders()
    assert found.id == order.id
    assert found.status == "failed"
    assert "was ordered on host server" in (found.message or "")
    assert world.chain.balance(world.treasury) == before


def test_a_step_that_a_decider_made_up_is_not_signed(world: World, server: Coordinator) -> None:
    """With the id secret and the database, but no worker's key."""
    world.fund("5.00")
    before = world.chain.balance(world.chain.stranger)
    ((chain_id, nonce, gas),) = world.rows(
        "SELECT chain_id, max(nonce), max(gas_limit) FROM steps GROUP BY chain_id"
    )
    data = token_abi().call("transfer", world.chain.stranger, 10_000_000)
    values = {
        "chain_id": chain_id,
        "signer": world.treasury,
        "nonce": nonce + 1,
        "position": 0,
        "kind": "fill",
        "recipient": world.chain.deployment.usdc,
        "data": data,
        "gas_limit": gas,
        **dict.fromkeys(("purchase_id", "escrow_id", "usdc", "reference")),
    }
    mac = server.opened.audit.codes.make("steps", [values[name] for name in STEP])
    world.edit(
        "INSERT INTO steps (chain_id, signer, nonce, kind, status, recipient, data, gas_limit,"
        " created_at, mac) VALUES (?, ?, ?, 'fill', 'allocated', ?, ?, ?, 0, ?)",
        *(chain_id, world.treasury, nonce + 1, values["recipient"], data, gas, mac),
    )

    for _ in range(3):
        world.round()
        world.chain.mine()

    assert world.chain.balance(world.chain.stranger) == before
    assert "is not the one that was allocated" in world.wiring.operations.pauses()[0].reason


def test_a_revocation_that_is_taken_out_pauses_and_funds_nothing(
    world: World, server: Coordinator
) -> None:
    purchase, before = ask(server), world.chain.balance(world.treasury)
    host = revoke(world)
    world.round()
    world.edit("UPDATE purchases SET stranded = NULL")
    world.edit("UPDATE hosts SET last_row = NULL, revoked_at = NULL, revocation = NULL")

    for _ in range(3):
        world.round()
        world.chain.mine()

    assert create_steps(world, purchase) == []
    assert world.chain.balance(world.treasury) == before
    assert f"the revocation of host {host} is gone" in world.wiring.operations.pauses()[0].reason


def test_hosts_rows_and_seals_outlast_the_database(world: World, server: Coordinator) -> None:
    """Rebuilt elsewhere by another host, whose key certifies itself after those of the export."""
    funded = ask(server)
    world.go()
    w = world.wiring
    w.checkpoints.seal(w.audit.head(), now=world.clock())
    doubted = ask(server, "5.00")
    host = revoke(world)
    export = world.folder / "audit.jsonl"
    export.write_bytes(b"".join(w.audit.export()))
    query = "SELECT seq, host, signature FROM audit ORDER BY seq"
    before, seal = world.rows(query), w.checkpoints.sealed()

    world.change_host()
    fresh = world.open(world.store.url("fresh"))
    assert fresh.rebuild(audit=export).discrepancies == ()

    after = stores.rows(fresh.wiring.settings.database_url, query)
    assert after[: len(before)] == before
    assert {own for _, own, _ in after[len(before) :]}.isdisjoint({own for _, own, _ in before})
    by_status = {h.id: h.status for h in fresh.wiring.hosts.list()}
    assert by_status.pop(host) == "revoked"
    assert list(by_status.values()) == ["valid", "valid"]
    assert fresh.wiring.checkpoints.sealed() == seal
    assert verify(fresh.wiring.audit).ok
    assert fresh.get(funded.id).status == "funded"
    assert fresh.get(doubted.id).status == "failed"
