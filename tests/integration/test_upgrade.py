"""A database of the first schema with purchases in every state is upgraded: all of them go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, func, select, text

from coordinator import Usdc
from coordinator.domain.purchase import Purchase
from coordinator.domain.usdc import ZERO
from coordinator.ledger import migrate as migrations
from coordinator.ledger.database import Database, open_database
from coordinator.ledger.migrate import HEAD, migrate, revision
from tests.integration.ledger.deciding import contents
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
    opened = open_database(world.store.make(world.store.url("before")))
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))
    with opened.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    yield opened
    opened.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(finality=str(FINALITY))


def stop_and_copy(world: World, target: Database) -> dict[str, int]:
    """Stop, and write every row into the tables that the target has; how many each has."""
    world.coordinator.close()
    copied = {}
    source = open_database(world.database)
    with source.read() as old, target.write() as new:
        metadata = MetaData()
        metadata.reflect(new)
        for table in metadata.sorted_tables:
            if table.name == "alembic_version":
                continue
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            query = text(f'SELECT {columns} FROM "{table.name}"')
            found = [dict(row) for row in old.execute(query).mappings()]
            copied[table.name] = len(found)
            if found:
                new.execute(table.insert(), found)
        new.execute(text(_LATER))
        if target.many_hosts:
            _go_on_counting(new, metadata)
    source.close()
    return copied


def _go_on_counting(connection: Connection, metadata: MetaData) -> None:
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            named = func.pg_get_serial_sequence(table.name, column.name)
            sequence = connection.execute(select(named)).scalar()
            last = connection.execute(select(func.max(column))).scalar()
            if sequence is not None and last is not None:
                connection.execute(select(func.setval(sequence, last)))


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
    waiting = world.buy("75.00")
    denied = world.buy("1000.01")
    sent = world.buy_and_send("8.00", idempotency_key="sent")
    asked = world.buy("9.00", idempotency_key="asked")
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
    counters = sorted(world.rows("SELECT * FROM counters"))
    signed = sorted(world.rows("SELECT hash, raw FROM attempts"))

    copied = stop_and_copy(world, first_schema)

    assert {name for name, count in copied.items() if not count} <= {
        "explanations", "orders", "pauses", "approval_decisions"
    }  # fmt: skip
    old = str(world.store.url("before"))
    kept = contents(old)
    assert migrate(first_schema)
    assert revision(first_schema) == HEAD
    now = contents(old)
    assert {name: now[name] for name in kept if name not in ("alembic_version", "cursors")} == {
        name: kept[name] for name in kept if name not in ("alembic_version", "cursors")
    }
    assert set(kept["cursors"]) < set(now["cursors"])
    world.restart(old)
    assert {p.id: (world.status(p), _hold(world, p)) for p in every} == before
    assert sorted(world.rows("SELECT * FROM counters")) == counters
    assert world.wiring.audit.verify().ok

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
