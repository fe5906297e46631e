"""A new version of the policy finds what is held and spent of the present in its counters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.limits.limits import ORGANISATION, LimitState
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    USDC,
    Clock,
    ask,
    assert_books_agree,
    contents,
    lay_over,
    policy,
)
from tests.integration.stores import on_both

pytestmark = on_both
Apply = Callable[..., bool]


@pytest.fixture
def apply(coordinator: Coordinator) -> Apply:
    """Puts the usual policy with changes in force."""

    def activate(changes: dict[str, Any]) -> bool:
        wiring = coordinator.wiring
        return wiring.activate_policy(
            policy(changes),
            author="olga",
            reason="a test",
            now=wiring.clock(),
        )

    return activate


def limit(coordinator: Coordinator, scope: str, window: str, **terms: str) -> LimitState:
    """The limit as it stands for ada with these terms."""
    states = coordinator.limits("ada", **terms)  # type: ignore[arg-type]
    (found,) = [s for s in states if (str(s.limit.scope), s.limit.window) == (scope, window)]
    return found


def spend(coordinator: Coordinator, purchase: Purchase) -> None:
    """Let it live to its end: all of it is spent."""
    feed = ChainFeed(coordinator)
    feed.open("1000")
    feed.deposit("500")
    feed.fund(purchase)
    feed.move(purchase, EscrowState.STARTED)
    feed.move(purchase, EscrowState.DELIVERED)
    feed.settle(purchase)
    assert feed.finalise() == 1


# What a version adds; the scope and window of which it is a limit; the terms that touch it.
ADDED: dict[str, tuple[dict[str, Any], str, str, dict[str, str]]] = {
    "hourly": ({"organisation": {"hourly_limit": "30"}}, "organisation", "hourly", {}),
    "daily instead of unlimited": (
        {"organisation": {"daily_limit": "30"}},
        "organisation",
        "daily",
        {},
    ),
    "weekly": ({"agents": {"ada": {"weekly_limit": "30"}}}, "agent:ada", "weekly", {}),
    "monthly": ({"agents": {"ada": {"monthly_limit": "30"}}}, "agent:ada", "monthly", {}),
    "rolling": ({"agents": {"ada": {"rolling_36h_limit": "30"}}}, "agent:ada", "rolling_36h", {}),
    "total": ({"agents": {"ada": {"total_limit": "30"}}}, "agent:ada", "total", {}),
    "a role's": (
        {
            "roles": {"r": {"daily_limit": "30"}},
            "agents": {"ada": {"role": "r", "daily_limit": None}},
        },
        "agent:ada",
        "daily",
        {},
    ),
    "pool's total": (
        {"pools": {"p": {"agents": ["ada", "bert"], "total_limit": "30"}}},
        "pool:p",
        "total",
        {},
    ),
    "pool's rolling": (
        {"pools": {"p": {"agents": ["ada", "bert"], "rolling_24h_limit": "30"}}},
        "pool:p",
        "rolling_24h",
        {},
    ),
    "category": (
        {"categories": {"data": {"daily_limit": "30"}}},
        "category:data",
        "daily",
        {"category": "data"},
    ),
    "agent × category": (
        {"agents": {"ada": {"categories": {"data": {"daily_limit": "30"}}}}},
        "agent_category:ada/data",
        "daily",
        {"category": "data"},
    ),
    "provider": (
        {"providers": {"paper-api": {"weekly_limit": "30"}}},
        "provider:paper-api",
        "weekly",
        {"provider": "paper-api"},
    ),
    "task": (
        {"tasks": {"default": {"daily_limit": "30"}}},
        "task:t",
        "daily",
        {"task": "t"},
    ),
    "task × category": (
        {"tasks": {"t": {"categories": {"data": {"daily_limit": "30"}}}}},
        "task_category:t/data",
        "daily",
        {"task": "t", "category": "data"},
    ),
    "session": (
        {"sessions": {"default": {"rolling_2h_limit": "30"}}},
        "session:s",
        "rolling_2h",
        {"session": "s"},
    ),
}


@pytest.mark.parametrize(("changes", "scope", "window", "terms"), ADDED.values(), ids=list(ADDED))
def test_an_added_limit_counts_what_is_held_and_spent_of_the_present_window(
    coordinator: Coordinator,
    database: str,
    clock: Clock,
    apply: Apply,
    changes: dict[str, Any],
    scope: str,
    window: str,
    terms: dict[str, str],
) -> None:
    agent = coordinator.agent("ada")
    wanted = {"category": "data", "task": "t", "session": "s"}
    spend(coordinator, ask(agent, "7.00", **wanted))
    held = ask(agent, "13.00", **wanted)
    agent.cancel(ask(agent, "5.00", **wanted).id)
    assert apply(changes)
    state = limit(coordinator, scope, window, **terms)
    assert (state.usage.held, state.usage.spent) == (Usdc("13"), Usdc("7"))
    assert_books_agree(database)
    assert ask(agent, "10.01", **wanted).denied
    assert ask(agent, "10.00", **wanted).status is Status.APPROVED
    agent.cancel(held.id)
    assert limit(coordinator, scope, window, **terms).usage.held == Usdc("10")
    assert_books_agree(database)


def test_what_was_placed_before_the_present_window_does_not_count_in_it(
    coordinator: Coordinator, clock: Clock, apply: Apply
) -> None:
    agent = coordinator.agent("ada")
    clock.now = NOON - DAY
    ask(agent, "7.00")
    clock.now = NOON - HOUR
    ask(agent, "13.00")
    clock.now = NOON
    apply({"agents": {"ada": {"daily_limit": "30", "hourly_limit": "30", "weekly_limit": "30"}}})
    held = {w: limit(coordinator, "agent:ada", w).usage.held for w in ("hourly", "daily", "weekly")}
    # 2026-01-01 is a Thursday.
    assert held == {"hourly": ZERO, "daily": Usdc("13"), "weekly": Usdc("20")}


def test_another_zone_counts_its_own_day(
    coordinator: Coordinator, database: str, clock: Clock, apply: Apply
) -> None:
    agent = coordinator.agent("ada")
    apply({"agents": {"ada": {"daily_limit": "30"}}})
    # 19:00 and 23:00 in Los Angeles, of 31 December; 03:00 and 07:00 of 1 January in UTC.
    for hour in (3, 7):
        clock.now = int(datetime(2026, 1, 1, hour, tzinfo=UTC).timestamp())
        ask(agent, "7.00")
    # 01:00 of 1 January there.
    clock.now = int(datetime(2026, 1, 1, 9, tzinfo=UTC).timestamp())
    ask(agent, "5.00")
    assert limit(coordinator, "agent:ada", "daily").usage.held == Usdc("19")
    zone = {"organisation": {"time_zone": "America/Los_Angeles"}}
    apply({"agents": {"ada": {"daily_limit": "30"}}, **zone})
    state = limit(coordinator, "agent:ada", "daily")
    assert state.usage.held == Usdc("5")
    assert state.resets_at == int(datetime(2026, 1, 2, 8, tzinfo=UTC).timestamp())
    assert ask(agent, "25.01").denied
    # And back: the day in UTC is as it was.
    apply({"agents": {"ada": {"daily_limit": "30"}}})
    assert limit(coordinator, "agent:ada", "daily").usage.held == Usdc("19")
    assert_books_agree(database)


def test_another_zone_does_not_tell_an_hour_s_usage_twice(
    coordinator: Coordinator, database: str, clock: Clock, apply: Apply
) -> None:
    ask(coordinator.agent("ada"), "7.00")
    clock.now += 600
    apply({"organisation": {"time_zone": "Asia/Kolkata"}})
    used = coordinator.wiring.limits.used(
        ORGANISATION, since=NOON - DAY, until=NOON + DAY, by=Window.DAILY
    )
    assert [part.usage.held for part in used if part.usage.held] == [Usdc("7")]
    assert_books_agree(database)


def test_a_new_member_brings_what_it_spent_into_the_pool_once(
    coordinator: Coordinator, database: str, clock: Clock, apply: Apply
) -> None:
    def pool(*agents: str) -> dict[str, Any]:
        return {"pools": {"p": {"agents": list(agents), "total_limit": "30", "daily_limit": "25"}}}

    clock.now = NOON - 40 * DAY
    ask(coordinator.agent("ada"), "4.00")
    ask(coordinator.agent("bert"), "2.00")
    clock.now = NOON
    apply(pool("ada"))
    ask(coordinator.agent("ada"), "3.00")
    assert limit(coordinator, "pool:p", "total").usage.held == Usdc("7")
    ask(coordinator.agent("bert"), "8.00")
    apply(pool("ada", "bert"))
    assert limit(coordinator, "pool:p", "total").usage.held == Usdc("17")
    assert limit(coordinator, "pool:p", "daily").usage.held == Usdc("11")
    # Leaving takes nothing out, and coming back brings nothing twice.
    apply(pool("ada"))
    ask(coordinator.agent("bert"), "1.00")
    assert limit(coordinator, "pool:p", "total").usage.held == Usdc("17")
    apply(pool("ada", "bert"))
    assert limit(coordinator, "pool:p", "total").usage.held == Usdc("18")
    assert_books_agree(database)


def test_a_limit_lowered_below_what_is_held_blocks_new_ones_and_loses_nothing(
    coordinator: Coordinator, database: str, apply: Apply
) -> None:
    agent = coordinator.agent("ada")
    apply({"agents": {"ada": {"daily_limit": "30"}}})
    held = ask(agent, "20.00")
    before = contents(database)["holds"]
    apply({"agents": {"ada": {"daily_limit": "10"}}})
    assert contents(database)["holds"] == before
    state = limit(coordinator, "agent:ada", "daily")
    assert (state.usage.held, str(state.remaining)) == (Usdc("20"), "-10.00")
    assert ask(agent, "0.05").denied
    assert coordinator.get(held.id).status is Status.APPROVED
    agent.cancel(held.id)
    assert ask(agent, "10.00").status is Status.APPROVED
    assert_books_agree(database)


def test_a_limit_that_went_and_came_back_counts_what_was_asked_meanwhile(
    coordinator: Coordinator, database: str, apply: Apply
) -> None:
    agent = coordinator.agent("ada")
    for daily in ("30", "unlimited"):
        apply({"agents": {"ada": {"daily_limit": daily}}})
        ask(agent, "6.00")
    apply({"agents": {"ada": {"daily_limit": "20"}}})
    assert limit(coordinator, "agent:ada", "daily").usage.held == Usdc("12")
    assert_books_agree(database)


def test_a_role_s_limit_counts_when_the_agent_s_own_word_goes(
    coordinator: Coordinator, database: str, apply: Apply
) -> None:
    role = {"roles": {"r": {"daily_limit": "20"}}}
    apply({**role, "agents": {"ada": {"role": "r", "daily_limit": "unlimited"}}})
    ask(coordinator.agent("ada"), "6.00")
    apply({**role, "agents": {"ada": {"role": "r", "daily_limit": None}}})
    assert limit(coordinator, "agent:ada", "daily").usage.held == Usdc("6")
    assert_books_agree(database)


def test_a_task_that_loses_its_own_limits_counts_in_the_default_s(
    coordinator: Coordinator, database: str, apply: Apply
) -> None:
    default = {"default": {"daily_limit": "20"}}
    apply({"tasks": {**default, "t": {"total_limit": "20"}}})
    ask(coordinator.agent("ada"), "6.00", task="t")
    apply({"tasks": default})
    assert limit(coordinator, "task:t", "daily", task="t").usage.held == Usdc("6")
    assert_books_agree(database)


def test_applying_a_version_drops_no_overlay(
    coordinator: Coordinator, database: str, apply: Apply
) -> None:
    apply({"agents": {"ada": {"daily_limit": "10"}}})
    ask(coordinator.agent("ada"), "10.00")
    lay_over(coordinator, "ovl_1", "grant", "agent:ada", "daily", 5 * USDC)
    lay_over(coordinator, "ovl_2", "disabled", "agent:bert")
    before = contents(database)["overlays"]
    assert ask(coordinator.agent("bert"), "1.00").denied
    apply({"agents": {"ada": {"daily_limit": "11"}}})
    assert contents(database)["overlays"] == before
    assert limit(coordinator, "agent:ada", "daily").limit.amount == Usdc("16")
    assert ask(coordinator.agent("ada"), "6.01").denied
    assert ask(coordinator.agent("ada"), "6.00").status is Status.APPROVED
    assert ask(coordinator.agent("bert"), "1.00").denied


def test_an_allocation_of_a_pool_counts_after_a_version_too(
    coordinator: Coordinator, database: str, opener: Opener, apply: Apply
) -> None:
    pool = {"pools": {"p": {"agents": ["ada", "bert"], "daily_limit": "100"}}}
    apply(pool)
    lay_over(coordinator, "ovl_1", "allocation", "pool_agent:p/ada", "daily", 5 * USDC)
    ask(coordinator.agent("ada"), "3.00")
    apply({**pool, "agents": {"bert": {"daily_limit": "7"}}})
    assert limit(coordinator, "pool_agent:p/ada", "daily").usage.held == Usdc("3")
    assert ask(coordinator.agent("ada"), "2.01").denied
    assert_books_agree(database)
