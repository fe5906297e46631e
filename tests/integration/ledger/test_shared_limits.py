"""Pools, tasks and sessions that overlap stay exact, whoever asks at the same moment."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Barrier
from typing import Any

from coordinator import Coordinator, Usdc
from tests.integration.ledger.child import Child, spend
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import USDC, assert_books_agree, assert_log_is_whole, rows
from tests.integration.stores import on_both

pytestmark = on_both
AMOUNT = "1.333333"
UNITS = 1_333_333
# (scope kind, id, window) -> limit; no amount is a multiple of what is asked.
LIMITS = {
    ("organisation", "", "daily"): "70.5",
    ("pool", "east", "daily"): "40.1",
    ("pool", "west", "rolling_24h"): "45.7",
    ("agent", "bert", "daily"): "30.25",
    ("task", "t-1", "total"): "21.000001",
    ("session", "s-1", "total"): "25.9",
    ("task_category", "t-1/data", "total"): "9.999999",
}
CHANGES: dict[str, Any] = {
    "organisation": {"daily_limit": "70.5"},
    "agents": {"bert": {"daily_limit": "30.25"}},
    "pools": {
        "east": {"agents": ["ada", "bert"], "daily_limit": "40.1"},
        "west": {"agents": ["bert", "cora"], "rolling_24h_limit": "45.7"},
    },
    "tasks": {
        "default": {"total_limit": "1000"},
        "t-1": {"total_limit": "21.000001", "categories": {"data": {"total_limit": "9.999999"}}},
    },
    "sessions": {"default": {"total_limit": "1000"}, "s-1": {"total_limit": "25.9"}},
}
ASKS = [
    {"agent": agent, "category": category, "task": task, "session": session}
    for agent, category, task, session in product(
        ("ada", "bert", "cora"), ("data", "other"), ("t-1", "t-2"), ("s-1", "s-2")
    )
]
THREADS, PROCESSES = 64, 8


def test_overlapping_pools_tasks_and_sessions_are_exact_for_64_threads_and_8_processes(
    opener: Opener, database: str
) -> None:
    coordinator = opener(CHANGES)
    terms = {"database": database, "changes": CHANGES, "amount": AMOUNT, "asks": ASKS}
    children = [Child("spend_in_turn", first=number, **terms) for number in range(PROCESSES)]
    try:
        assert [child.says() for child in children] == ["ready"] * PROCESSES
        for child in children:
            child.go()
        admitted = sum(in_threads(coordinator), Counter[str]())
        for child in children:
            admitted += Counter(child.says())
    finally:
        for child in children:
            child.__exit__()

    assert admitted["purchase"] and admitted["cost"]
    assert_nothing_exceeds(database)
    assert_nothing_more_fits(coordinator)
    query = "SELECT kind, count(*), sum(amount) FROM holds GROUP BY kind"
    held = {kind: (count, amount) for kind, count, amount in rows(database, query)}
    assert held == {
        "purchase": (admitted["purchase"], admitted["purchase"] * UNITS),
        "off_chain": (admitted["cost"], admitted["cost"] * UNITS),
    }
    assert_books_agree(database)
    assert_log_is_whole(database)


def in_threads(coordinator: Coordinator) -> list[Counter[str]]:
    """What 64 threads had admitted, that each ask for everything once from one moment on."""
    gate = Barrier(THREADS)

    def ask_for_all(number: int) -> Counter[str]:
        gate.wait()
        return spend(coordinator, AMOUNT, ASKS, first=number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask_for_all, range(THREADS)))


def assert_nothing_exceeds(database: str) -> None:
    query = (
        'SELECT scope_kind, scope_id, "window", sum(held + spent) FROM counters GROUP BY 1, 2, 3'
    )
    counted = {(kind, of, window): total for kind, of, window, total in rows(database, query)}
    for key, limit in LIMITS.items():
        assert counted[key] <= Usdc(limit).base_units, key
    assert any(counted[key] + UNITS > Usdc(limit).base_units for key, limit in LIMITS.items())
    assert counted["organisation", "", "total"] <= 70 * USDC + USDC // 2


def assert_nothing_more_fits(coordinator: Coordinator) -> None:
    """Whatever was denied was denied for a limit that has no room for it at the end."""
    for asked in ASKS:
        agent = coordinator.agent(asked["agent"])
        terms = {key: value for key, value in asked.items() if key != "agent"}
        decision = agent.check(amount=AMOUNT, provider="paper-api", purpose="more", **terms)
        broken = [state for state in decision.limits if state.broken]
        assert broken and all(state.remaining < Usdc(AMOUNT) for state in broken), asked
