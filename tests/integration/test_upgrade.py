"""A database of the first schema with purchases in every state is upgraded: all of them go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from coordinator import Usdc
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import HEAD, migrate, revision
from tests.integration.earlier import copy_into, in_columns_of, make_at
from tests.integration.ledger.deciding import assert_books_agree, contents, rows
from tests.integration.stores import on_both
from tests.integration.test_reorg import fundings
from tests.integration.world import World

pytestmark = on_both
FINALITY = 4
# Not there before the second schema.
_LATER = "DELETE FROM cursors WHERE name = 'final'"


@pytest.fixture
def first_schema(world: World) -> Iterator[Database]:
    """An empty database as the first version made it."""
    opened = make_at("0001", world.store.make(world.store.url("before")))
    yield opened
    opened.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(finality=str(FINALITY))


def stop_and_copy(world: World, target: Database) -> dict[str, int]:
    """Stop, and write every row as the first version would have; how many each table has."""
    world.coordinator.close()
    copied = copy_into(target, str(world.database))
    with target.write() as connection:
        connection.execute(text(_LATER))
    return copied


def changed_tables(database: str) -> dict[str, set[tuple[object, ...]]]:
    """What both schemas have of the tables that the third one changed."""
    queries = {
        "holds": "SELECT id, kind, purchase_id, amount, status, posted, placed_at, ended_at",
        "hold_charges": 'SELECT hold_id, scope_kind, scope_id, "window", start',
        "counters": 'SELECT scope_kind, scope_id, "window", start, held, spent',
    }
    return {name: set(rows(database, f"{query} FROM {name}")) for name, query in queries.items()}


def test_purchases_of_every_state_go_on_after_the_upgrade(
    world: World, first_schema: Database
) -> None:
    settled = world.to_settle("5.00")
    world.go()
    world.chain.mine(FINALITY)
    world.round()
    funded, delivered = world.fund("6.00"), world.fund("7.00")
    world.chain.deliver(delivered.escrow_id)
    world.go()
    waiting = world.buy("75.00", task="t-1", session="s-1")
    denied = world.buy("1000.01")
    sent = world.buy_and_send("8.00", idempotency_key="sent")
    asked = world.buy("9.00", idempotency_key="asked", task="t-1")
    every = [settled, funded, delivered, waiting, denied, sent, asked]
    before = {p.id: (world.status(p), _hold(world, p)) for p in every}
    assert [status for status, _ in before.values()] == [
        "settled",
        "funded",
        "delivered",
        "awaiting_approval",
        "denied",
        "approved",
        "approved",
    ]
    # Hours before the upgrade are not known to it.
    counters = {
        row for row in changed_tables(str(world.database))["counters"] if row[2] != "hourly"
    }
    assert {kind for kind, *_ in counters} == {
        "organisation", "agent", "provider", "task", "session"
    }  # fmt: skip
    signed = sorted(world.rows("SELECT hash, raw FROM attempts"))

    copied = stop_and_copy(world, first_schema)

    assert {name for name, count in copied.items() if not count} <= {
        "explanations", "orders", "pauses", "approval_decisions"
    }  # fmt: skip
    old = str(world.store.url("before"))
    kept, kept_of_changed = contents(old), changed_tables(old)
    assert migrate(first_schema)
    assert revision(first_schema) == HEAD
    now, now_of_changed = contents(old), changed_tables(old)
    same = set(kept) - {"alembic_version", "cursors"} - set(kept_of_changed)
    before_of_same = {name: sorted(kept[name], key=repr) for name in same}
    assert in_columns_of(before_of_same, now) == before_of_same
    assert now_of_changed["holds"] == kept_of_changed["holds"]
    for name in ("hold_charges", "counters"):
        assert now_of_changed[name] > kept_of_changed[name]
    assert set(kept["cursors"]) < set(now["cursors"])
    world.restart(old)
    assert {p.id: (world.status(p), _hold(world, p)) for p in every} == before
    known = changed_tables(old)["counters"]
    assert known >= counters
    assert {window for _, _, window, *_ in known - counters} == {"daily"}
    assert_books_agree(old)
    assert verify(world.wiring.audit).ok

    # It goes on: what was in the pool is mined as it was signed, and asked again is the same.
    assert world.buy("8.00", idempotency_key="sent").id == sent.id
    assert world.coordinator.approve(waiting.approval_id or "", approver="alice").done
    world.go()
    for purchase in (funded, sent, asked, waiting):
        assert world.status(purchase) == "funded", world.get(purchase).reason
        assert fundings(world, purchase) == 1
    assert set(signed) <= set(world.rows("SELECT hash, raw FROM attempts"))
    assert world.coordinator.settle(delivered.id, approver="alice").done
    world.go()
    world.chain.mine(FINALITY)
    world.round()
    world.go()
    assert _hold(world, delivered) == ("posted", Usdc("7"))
    assert _hold(world, settled) == ("posted", Usdc("5"))
    assert world.status(denied) == "denied"
    world.check_books()
    assert_books_agree(old)


def test_a_block_that_is_lost_after_the_upgrade_is_taken_back_as_any_other(
    world: World, first_schema: Database
) -> None:
    kept = world.fund("6.00")
    lost = world.buy_and_send("8.00")
    stop_and_copy(world, first_schema)
    migrate(first_schema)
    world.restart(str(world.store.url("before")))
    world.go()
    assert world.status(lost) == "funded"

    world.chain.rpc.call("anvil_reorg", 1, [])
    world.round()

    assert (world.status(lost), world.status(kept)) == ("approved", "funded")
    assert world.hold(lost) == ("held", ZERO)
    world.go()
    assert world.status(lost) == "funded"
    assert [fundings(world, purchase) for purchase in (kept, lost)] == [1, 1]
    world.check_books()


def _hold(world: World, purchase: Purchase) -> tuple[str, Usdc] | None:
    return None if purchase.status == "denied" else world.hold(purchase)
