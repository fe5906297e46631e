"""Whoever waits is told what is in the way; a closed coordinator says that it is closed."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.api.coordinator import Coordinator
from coordinator.domain.errors import CoordinatorClosed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both


def test_a_closed_coordinator_says_so_and_holds_nothing(opener: Opener, database: str) -> None:
    coordinator = opener()
    agent = coordinator.agent("ada")
    purchase = ask(agent)
    hold, session = agent.hold("1.00", category="data"), coordinator.open_session("s-1")
    coordinator.close()
    coordinator.close()
    before = rows(database, "SELECT id FROM holds")

    for use in (
        lambda: ask(agent),
        lambda: ask(agent, wait=True),
        lambda: agent.check(provider="paper-api", amount="1.00", purpose="a paper"),
        lambda: coordinator.wait_for(purchase.id),
        lambda: coordinator.start(),
        lambda: coordinator.__enter__(),
        lambda: hold.post("0.50"),
        lambda: session.close(),
        lambda: asyncio.run(agent.apurchase(provider="paper-api", amount="1", purpose="a paper")),
    ):
        with pytest.raises(CoordinatorClosed, match="is closed") as told:
            use()
        assert told.value.money_moved is False
    assert rows(database, "SELECT id FROM holds") == before


def test_a_wait_where_nobody_acts_names_the_worker_that_is_missing(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    purchase = ask(coordinator.agent("ada"))

    with caplog.at_level(logging.WARNING):
        waited = coordinator.wait_for(purchase.id, timeout_seconds=0.3)

    assert waited.blocker is not None and waited.blocker.code == "nobody_acts"
    assert "start `coordinator worker`" in waited.blocker.message
    assert waited.as_dict()["blocker"] == waited.blocker.as_dict()
    # Told when the wait begins, not only at its end.
    assert any(waited.blocker.message in message for message in caplog.messages)


def test_a_wait_while_spending_is_paused_names_the_pause(coordinator: Coordinator) -> None:
    purchase = ask(coordinator.agent("ada"))
    other = ask(coordinator.agent("bert"))
    coordinator.pause("the books differ", by="alice", agent="ada")

    waited = coordinator.wait_for(purchase.id, timeout_seconds=0)

    assert waited.blocker is not None and waited.blocker.code == "paused"
    assert "alice" in waited.blocker.message and "the books differ" in waited.blocker.message
    unpaused = coordinator.wait_for(other.id, timeout_seconds=0).blocker
    assert unpaused is not None and unpaused.code == "nobody_acts"


def test_a_wait_names_what_the_worker_has_told_of(coordinator: Coordinator, database: str) -> None:
    purchase = ask(coordinator.agent("ada"))
    assert coordinator.wiring.leases.acquire("a worker", seconds=60) is not None
    assert coordinator.wait_for(purchase.id, timeout_seconds=0).blocker is None

    for kind in ("lane_stuck", "gas_balance_low", "fees_above_ceiling"):
        edit(
            database,
            "INSERT INTO notices (key, at, kind, severity, subject, message, tries)"
            f" VALUES ('{kind}', 1, '{kind}', 'warning', 'treasury', 'told', 0)",
        )
        blocker = coordinator.wait_for(purchase.id, timeout_seconds=0).blocker
        assert blocker is not None and blocker.code == kind


def test_whoever_approves_and_waits_where_nobody_acts_is_told_so(
    coordinator: Coordinator,
) -> None:
    purchase = ask(coordinator.agent("ada"), "75.00")
    assert coordinator.wait_for(purchase.id, timeout_seconds=0).blocker is None
    approved = coordinator.approve(purchase.approval_id or "", approver="alice")
    assert approved.done

    blocker = coordinator.wait_for(purchase.id, timeout_seconds=0).blocker

    assert blocker is not None and blocker.code == "nobody_acts"


def test_many_waits_leave_the_event_loops_own_threads_alone(coordinator: Coordinator) -> None:
    async def wait_for_many() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        agent = coordinator.agent("ada")
        terms = {"provider": "paper-api", "amount": "1.00", "purpose": "a paper"}
        waits = [
            asyncio.create_task(agent.apurchase(**terms, timeout_seconds=3600)) for _ in range(40)
        ]
        while len(await asyncio.to_thread(coordinator.purchases)) < 40:
            await asyncio.sleep(0.05)
        # All forty wait at once, and neither the loop's threads nor others' decisions do.
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        last = await agent.apurchase(**terms, wait=False)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return [name, last.status.value]

    name, status = asyncio.run(asyncio.wait_for(wait_for_many(), 60))

    assert "coordinator" not in name and status == "approved"
    assert all(p.status == "approved" for p in coordinator.purchases(limit=100))
