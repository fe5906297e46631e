"""What is due by the clock is done once, whoever does it."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator import Coordinator
from coordinator.budgets.upkeep import Upkeep
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import DAY, HOUR, Clock, rows
from tests.integration.stores import on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]


def pool(apply: str) -> dict[str, Any]:
    return {
        "agents": {"ada": {"priority": 9}, "bert": {"priority": 1}},
        "pools": {
            "crew": {
                "agents": ["ada", "bert"],
                "daily_limit": "100",
                "rebalance": {"every": "24h", "apply": apply},
            }
        },
    }


def upkeep(coordinator: Coordinator) -> Upkeep:
    """Looks at everything each time: its ticks are far apart."""
    ticks = iter(range(0, 10**9, 10**6))
    w = coordinator.wiring
    return Upkeep(
        budgets=w.budgets,
        notices=w.notices,
        ticks=lambda: float(next(ticks)),
        policies_due=w.treasury.put_policies_in_force,
    )


def kinds(database: str) -> list[str]:
    return [kind for (kind,) in rows(database, "SELECT kind FROM notices ORDER BY seq")]


def test_a_pool_is_shared_out_when_it_is_due(opener: Opener, database: str, clock: Clock) -> None:
    coordinator = opener(pool("auto"))
    first, second = upkeep(coordinator), upkeep(coordinator)

    for _ in range(3):
        first.run(clock())
        second.run(clock())
    shared = "SELECT count(*) FROM audit WHERE event = 'pool_shared'"
    assert rows(database, shared) == [(1,)]
    assert {s.scope.id for s in coordinator.overlays()} == {"crew/ada", "crew/bert"}

    clock.now += DAY - 1
    first.run(clock())
    assert rows(database, shared) == [(1,)]
    clock.now += 1
    first.run(clock())
    assert rows(database, shared) == [(2,)]


def test_a_pool_that_asks_is_told_to_be_due_once(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(pool("ask"))
    work = upkeep(coordinator)
    work.run(clock())
    work.run(clock())

    assert kinds(database).count("rebalance_due") == 1
    assert coordinator.overlays() == []


def test_a_review_is_told_once_a_time(opener: Opener, database: str, clock: Clock) -> None:
    coordinator = opener({"agents": {"ada": {"daily_limit": "10"}}, "reviews": {"every": "1h"}})
    coordinator.agent("ada").record("9.5")
    work = upkeep(coordinator)
    work.run(clock())
    work.run(clock())
    assert kinds(database).count("review") == 1
    (message,) = rows(database, "SELECT message FROM notices WHERE kind = 'review'")[0]
    assert "agent:ada has nearly used up its daily limit: 5 % remains" in message

    clock.now += HOUR
    work.run(clock())
    assert kinds(database).count("review") == 2


def test_an_abandoned_hold_is_posted_by_whoever_looks_first(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener()
    hold = coordinator.agent("ada").hold("3.00", expires_after="15m")
    first, second = upkeep(coordinator), upkeep(coordinator)
    clock.now += 15 * 60 - 1
    first.run(clock())
    assert coordinator.wiring.costs.get(hold.id).status == "held"

    clock.now += 1
    first.run(clock())
    second.run(clock())
    assert coordinator.wiring.costs.get(hold.id).status == "posted"
    assert rows(database, "SELECT count(*) FROM audit WHERE event = 'cost_posted'") == [(1,)]
