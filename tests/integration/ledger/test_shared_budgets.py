"""Overlapping pools, tasks and sessions stay exact when threads and processes ask at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator import Status, Usdc
from coordinator.domain.limits import Scope
from coordinator.domain.rules import Terms
from tests.integration.ledger.child import Child
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import USDC, ask, counter
from tests.integration.stores import on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
OVERLAPPING: dict[str, Any] = {
    "pools": {
        "crew": {"daily_limit": "60", "agents": ["ada", "bert"]},
        "data": {"rolling_24h_limit": "50", "agents": ["bert", "cora"]},
    },
    "tasks": {"default": {"total_limit": "500"}, "t-1": {"total_limit": "25"}},
    "sessions": {"default": {"total_limit": "45"}},
}
COMBINATIONS: tuple[dict[str, str], ...] = (
    {"agent": "ada", "task": "t-1", "session": "s-1"},
    {"agent": "ada", "session": "s-2"},
    {"agent": "bert", "task": "t-1", "session": "s-2"},
    {"agent": "bert", "session": "s-1"},
    {"agent": "cora", "task": "t-2", "session": "s-1"},
    {"agent": "cora", "session": "s-2"},
)


def test_64_threads_and_8_processes_admit_what_fits_and_nothing_more(
    opener: Opener, database: str
) -> None:
    coordinator = opener(OVERLAPPING)
    phase = {"database": database, "changes": OVERLAPPING, "count": 5, "asks": COMBINATIONS}
    children = [Child("buy", phases=[phase]) for _ in range(8)]

    def spend(index: int) -> Counter[str]:
        """Every combination once: bought, held and posted, or spent under a hold."""
        found: Counter[str] = Counter()
        turn = index % len(COMBINATIONS)
        for number, combination in enumerate(COMBINATIONS[turn:] + COMBINATIONS[:turn]):
            terms = dict(combination)
            agent = coordinator.agent(terms.pop("agent"))
            if (number + index) % 3 == 0:
                found[agent.id] += ask(agent, **terms).status is Status.APPROVED
                continue
            hold = agent.hold("1.00", **terms)
            found[agent.id] += hold.ok
            if hold.ok and number % 2:
                hold.post("1.00")
        return found

    try:
        assert [child.says() for child in children] == ["ready"] * 8
        for child in children:
            child.go()
        with ThreadPoolExecutor(64) as pool:
            admitted = sum(pool.map(spend, range(64)), start=Counter())
        for child in children:
            for name, count in child.says()["spread"].items():
                agent_id, status = name.split()
                admitted[agent_id] += count if status == "approved" else 0
    finally:
        for child in children:
            child.__exit__()

    w = coordinator.wiring
    for agent_id in ("ada", "bert", "cora"):
        assert sum(counter(database, "agent", agent_id, "total")) == admitted[agent_id] * USDC
    for combination in COMBINATIONS:
        terms = dict(combination)
        agent = coordinator.agent(terms.pop("agent"))
        # All used is kept, and each was asked for more than fits: every one has met its limit.
        assert agent.check_hold("1.00", **terms).reasons
        states = w.limits.states(Terms(agent.id, **terms), now=w.clock())
        assert all(state.remaining >= Usdc("0") for state in states)
    full = {
        scope
        for scope in ("pool:crew", "pool:data", "task:t-1", "session:s-1", "session:s-2")
        for combination in COMBINATIONS
        for state in w.limits.states(Terms(**combination), now=w.clock())
        if state.limit.scope == Scope.of(scope) and not state.remaining
    }
    assert len(full) >= 2
