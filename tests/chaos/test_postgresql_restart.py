"""PostgreSQL goes away and comes back while a purchase is on its way."""

from __future__ import annotations

import pytest

from coordinator import Usdc
from coordinator.domain.errors import LedgerUnavailable
from coordinator.domain.ports import KillPoint
from tests.chaos.evidence import fundings
from tests.integration.stores import PostgresqlStore, on_postgresql
from tests.integration.world import World

pytestmark = on_postgresql


def restart(world: World) -> None:
    assert isinstance(world.store, PostgresqlStore)
    world.store.server.restart()


def round_with_faults(world: World) -> None:
    """One round, which may find the database gone."""
    try:
        world.round()
    except LedgerUnavailable as fault:
        assert "can't be used" in str(fault) or "may or may not" in str(fault)


# The others are passed before a round, where something ends, or where a block is lost.
_ELSEWHERE = {KillPoint.REQUEST_COMMITTED, KillPoint.ROLLED_BACK, KillPoint.HOLDS_ENDED}
# Only payments for HTTP requests come there.
_ELSEWHERE |= {KillPoint.AUTHORISATIONS_SIGNED, KillPoint.AUTHORISATIONS_STORED}


@pytest.mark.parametrize("point", [p for p in KillPoint if p not in _ELSEWHERE])
def test_a_restart_at_any_point_of_a_purchase_only_delays_it(
    world: World, point: KillPoint
) -> None:
    asked = world.buy("25.00")
    world.at(point, lambda: restart(world))
    for _ in range(6):
        round_with_faults(world)
        world.chain.mine()
    assert world._due_at == {}
    world.go()
    assert world.status(asked) == "funded"
    assert fundings(world, asked) == 1
    world.check_books()


def test_requests_while_it_is_away_promise_nothing(world: World) -> None:
    world.fund("1.00")
    assert isinstance(world.store, PostgresqlStore)
    server = world.store.server
    server.control("stop", "-m", "fast")
    try:
        with pytest.raises(LedgerUnavailable):
            world.buy("25.00", idempotency_key="papers")
    finally:
        server.restart()
    asked = world.buy("25.00", idempotency_key="papers")
    world.go()
    assert world.status(asked) == "funded"
    assert world.usage()[0] == Usdc("26")
    world.check_books()
