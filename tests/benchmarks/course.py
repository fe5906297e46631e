"""What is bought in a benchmark: by eight agents, each purchase under eleven limits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from threading import Barrier
from time import perf_counter
from typing import Any, Final

from coordinator import Coordinator, Status
from coordinator.api.coordinator import Agent
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from tests.benchmarks.figures import Sample
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import PROVIDER, open_coordinator

AGENTS: Final = 8
PURCHASES_PER_TASK: Final = 20
PURCHASES_PER_SESSION: Final = 50
AMOUNT: Final = "1.00"
CATEGORY: Final = "data"
# So much that no number of purchases reaches a threshold.
_BIG, _GAS_WEI = "1000000000", 10**26
_names = [f"a{number}" for number in range(AGENTS)]
_AGENT: Final = {
    "per_purchase_limit": "100",
    "daily_limit": _BIG,
    "total_limit": _BIG,
    "approval_threshold": "unlimited",
    "categories": {CATEGORY: {"daily_limit": _BIG}},
}
POLICY: Final[dict[str, Any]] = {
    "organisation": {"daily_limit": _BIG, "total_limit": _BIG, "time_zone": "UTC"},
    "agents": {name: _AGENT for name in _names},
    "pools": {"team": {"agents": _names, "daily_limit": _BIG}},
    "providers": {
        "paper-api": {"address": PROVIDER, "service": "papers", "daily_limit": _BIG},
    },
    "categories": {"default": "other", "other": {}, CATEGORY: {"total_limit": _BIG}},
    "tasks": {"default": {"total_limit": "100000"}},
    "sessions": {"default": {"total_limit": "100000"}},
    "approvals": {"required": 1, "approvers": ["alice"], "expires_after": "1h"},
}
_runs = itertools.count()


@contextmanager
def course(url: str) -> Iterator[Coordinator]:
    """A coordinator with the policy on the database; its clock stands still at a noon."""
    coordinator = open_coordinator(url, Policy.from_dict(POLICY))
    try:
        yield coordinator
    finally:
        coordinator.close()


def prepare(url: str) -> None:
    """Make the database one that has the policy, a treasury with enough of everything, no past."""
    with course(url) as coordinator:
        feed = ChainFeed(coordinator)
        feed.open(_BIG)
        feed.observe(_BIG, _GAS_WEI)


def buy(agent: Agent, task: str, session: str) -> Purchase:
    """One decision with its hold, durable when this returns."""
    purchase = agent.purchase(
        provider="paper-api",
        amount=AMOUNT,
        purpose="a paper on escrow",
        category=CATEGORY,
        task=task,
        session=session,
        wait=False,
    )
    if purchase.status is not Status.APPROVED:
        raise RuntimeError(f"the benchmark's purchase is {purchase.status}: {purchase.reason}")
    return purchase


def warm_up(coordinator: Coordinator) -> int:
    """Decide a few times for each agent; how many limits a purchase touches."""
    run = next(_runs)
    bought = [
        buy(coordinator.agent(name), f"warm-{run}", f"warm-{run}") for name in _names for _ in "12"
    ]
    return len(bought[0].limits)


def spell(coordinator: Coordinator, *, callers: int, seconds: float) -> Sample:
    """What ``callers`` threads get decided in ``seconds``, each asking again as soon as it may."""
    run, barrier = next(_runs), Barrier(callers)

    def call(caller: int) -> list[float]:
        agent = coordinator.agent(_names[caller % AGENTS])
        took: list[float] = []
        barrier.wait()
        until = perf_counter() + seconds
        while not took or perf_counter() < until:
            task = f"t{run}-{caller}-{len(took) // PURCHASES_PER_TASK}"
            session = f"s{run}-{caller}-{len(took) // PURCHASES_PER_SESSION}"
            asked = perf_counter()
            buy(agent, task, session)
            took.append(perf_counter() - asked)
        return took

    with ThreadPoolExecutor(callers) as threads:
        began = perf_counter()
        latencies = [took for each in threads.map(call, range(callers)) for took in each]
        elapsed = perf_counter() - began
    return Sample(len(latencies) / elapsed, median(latencies) * 1000)
