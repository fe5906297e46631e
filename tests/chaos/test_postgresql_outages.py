"""PostgreSQL restarts, crashes or has no room while a purchase is made: it is only delayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import LedgerUnavailable, Usdc
from coordinator.domain.ports import KillPoint
from tests.chaos.evidence import check_lane, fundings, lane
from tests.integration.stores import PostgresqlServer, edit, name_of, on_postgresql, tables
from tests.integration.world import World

pytestmark = on_postgresql
FINALITY = 2
POINTS = [
    KillPoint.BEFORE_ALLOCATE,
    KillPoint.STEPS_ALLOCATED,
    KillPoint.ATTEMPTS_SIGNED,
    KillPoint.ATTEMPTS_STORED,
    KillPoint.ATTEMPTS_SENT,
    KillPoint.EVENTS_READ,
    KillPoint.EVENTS_STORED,
    KillPoint.RECEIPTS_READ,
    KillPoint.RECEIPTS_STORED,
]
BEFORE_STORING = POINTS[:3]


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(finality=str(FINALITY))


def check_funded_once(world: World, asked: str) -> None:
    purchase = world.coordinator.get(asked)
    assert purchase.status == "funded", purchase.reason
    assert fundings(world, purchase) == 1
    check_lane(world)
    world.check_books()


@pytest.mark.each_choice
@pytest.mark.parametrize("mode", ["fast", "immediate"], ids=["restart", "crash"])
@pytest.mark.parametrize("point", POINTS)
def test_a_server_that_goes_down_at_any_point_only_delays_the_purchase(
    world: World, postgresql: PostgresqlServer, point: KillPoint, mode: str
) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    struck = []
    world.at(point, lambda: struck.append(postgresql.restart(mode)))
    for _ in range(3):
        try:
            world.round()
        except LedgerUnavailable as told:
            assert told.money_moved is not True
        world.chain.mine()
    world.go()
    assert struck
    check_funded_once(world, asked.id)


@pytest.mark.parametrize("mode", ["fast", "immediate"], ids=["restart", "crash"])
def test_a_server_that_goes_down_before_a_hold_ends_posts_it_once(
    world: World, postgresql: PostgresqlServer, mode: str
) -> None:
    purchase = world.to_settle("5.00")
    postgresql.restart(mode)
    world.go()
    world.at(KillPoint.HOLDS_ENDED, lambda: postgresql.restart(mode))
    world.chain.mine(FINALITY)
    for _ in range(3):
        try:
            world.round()
        except LedgerUnavailable as told:
            assert told.money_moved is not True
    assert world.hold(purchase) == ("posted", Usdc("5"))
    world.check_books()


class Disk:
    """What the server answers when a table can't grow: error 53100, to every insert and update."""

    def __init__(self, database: str) -> None:
        self._database = database
        edit(
            database,
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device'"
            " USING ERRCODE = 'disk_full'; END $$",
        )
        self._tables = tables(database)

    def fill(self) -> None:
        for table in self._tables:
            edit(
                self._database,
                f"CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON {table}"
                " EXECUTE FUNCTION no_room()",
            )

    def free(self) -> None:
        for table in self._tables:
            edit(self._database, f"DROP TRIGGER no_room ON {table}")


@pytest.fixture
def disk(world: World) -> Disk:
    return Disk(world.database)


def test_a_request_on_a_full_server_is_refused_and_leaves_nothing(world: World, disk: Disk) -> None:
    first = world.fund("1.00")
    disk.fill()
    with pytest.raises(LedgerUnavailable, match="No space left") as told:
        world.buy("25.00", idempotency_key="papers")
    assert told.value.money_moved is False
    disk.free()
    assert world.rows("SELECT count(*) FROM purchases") == [(1,)]
    assert world.usage()[0] == first.amount
    asked = world.buy("25.00", idempotency_key="papers")
    world.go()
    check_funded_once(world, asked.id)


@pytest.mark.parametrize("point", [p for p in POINTS if p is not KillPoint.ATTEMPTS_SENT])
def test_a_server_that_fills_up_at_any_point_only_delays_the_purchase(
    world: World, disk: Disk, point: KillPoint
) -> None:
    world.fund("1.00")
    sent = len(lane(world))
    asked = world.buy("25.00")
    world.at(point, disk.fill)
    failed = 0
    for _ in range(4):
        try:
            world.round()
        except LedgerUnavailable as told:
            failed += 1
            assert told.money_moved is False
        if point in BEFORE_STORING:
            # What could not be stored was not sent.
            assert len(lane(world)) == sent
            assert world.chain.pool(world.signer) == []
        world.chain.mine()
    disk.free()
    assert failed
    world.go()
    check_funded_once(world, asked.id)


def test_a_server_that_only_reads_refuses_and_goes_on_when_it_writes_again(
    world: World, postgresql: PostgresqlServer
) -> None:
    world.fund("1.00")
    asked = world.buy("25.00")
    name = name_of(world.database)
    postgresql.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgresql.disconnect(name)
    for act in (world.round, lambda: world.buy("2.00", idempotency_key="papers")):
        with pytest.raises(LedgerUnavailable, match="read-only"):
            act()
    assert world.chain.pool(world.signer) == []
    postgresql.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    postgresql.disconnect(name)
    world.go()
    check_funded_once(world, asked.id)
    assert world.buy("2.00", idempotency_key="papers").status == "approved"
