"""Whoever waits is woken by the change that ends the wait, in whichever process it is made."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from coordinator import Coordinator, LedgerUnavailable, Purchase, Status
from coordinator.domain.errors import CoordinatorClosed, UnknownId
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.child import Child
from tests.integration.ledger.deciding import ask
from tests.integration.ledger.waits import LONG, waiting
from tests.integration.stores import PostgresqlServer, on_both

pytestmark = on_both


def test_a_wait_ends_when_another_process_cancels(
    coordinator: Coordinator, database: str, threads: ThreadPoolExecutor
) -> None:
    purchase, other = (ask(coordinator.agent("ada")) for _ in range(2))
    wait = waiting(threads, coordinator, purchase, "final")
    with Child("cancel", database=database, purchase_id=purchase.id) as child:
        assert child.says() == "ready"
        assert child.go().says() == "cancelled"

    assert wait.result(LONG).status is Status.CANCELLED
    assert coordinator.get(other.id).status is Status.APPROVED


def test_an_await_ends_when_another_process_cancels(
    coordinator: Coordinator, database: str
) -> None:
    purchase = ask(coordinator.agent("ada"))

    async def wait_while_another_cancels() -> Purchase:
        wait = asyncio.create_task(
            coordinator.await_for(purchase.id, until="final", timeout_seconds=LONG)
        )
        with Child("cancel", database=database, purchase_id=purchase.id) as child:
            await asyncio.to_thread(child.says)
            await asyncio.to_thread(lambda: child.go().says())
            return await wait

    assert asyncio.run(wait_while_another_cancels()).status is Status.CANCELLED


def test_each_wait_ends_at_its_own_goal(
    coordinator: Coordinator, threads: ThreadPoolExecutor
) -> None:
    feed = ChainFeed(coordinator)
    feed.open()
    first, second = (ask(coordinator.agent("ada")) for _ in range(2))
    funded, final = (waiting(threads, coordinator, first, goal) for goal in ("funded", "final"))
    not_funded = waiting(threads, coordinator, second, "funded")

    feed.fund(first)

    assert funded.result(LONG).status is Status.FUNDED
    coordinator.cancel(second.id, by="alice")
    assert not_funded.result(LONG).status is Status.CANCELLED
    assert not final.done()
    feed.cancel(first)
    feed.finalise()
    assert final.result(LONG).status is Status.CANCELLED


def test_a_wait_for_what_is_there_already_ends_at_once(coordinator: Coordinator) -> None:
    purchase = ask(coordinator.agent("ada"))
    coordinator.cancel(purchase.id, by="alice")

    assert coordinator.wait_for(purchase.id, timeout_seconds=LONG).status is Status.CANCELLED


@pytest.mark.parametrize("timeout_seconds", [2**61, 1e300])
def test_a_wait_may_be_longer_than_any_system_can_sleep(
    coordinator: Coordinator, threads: ThreadPoolExecutor, timeout_seconds: float
) -> None:
    purchase = ask(coordinator.agent("ada"))
    terms = {"until": "final", "timeout_seconds": timeout_seconds}
    blocked = threads.submit(coordinator.wait_for, purchase.id, **terms)
    awaited = threads.submit(lambda: asyncio.run(coordinator.await_for(purchase.id, **terms)))
    while len(coordinator._watcher) < 2 and not (blocked.done() or awaited.done()):
        sleep(0)

    coordinator.cancel(purchase.id, by="alice")

    assert {blocked.result(LONG).status, awaited.result(LONG).status} == {Status.CANCELLED}


def test_an_unknown_purchase_is_told_and_nobody_waits_for_it(coordinator: Coordinator) -> None:
    with pytest.raises(UnknownId):
        coordinator.wait_for("pur_nobody", timeout_seconds=LONG)
    with pytest.raises(UnknownId):
        asyncio.run(coordinator.await_for("pur_nobody", timeout_seconds=LONG))
    assert len(coordinator._watcher) == 0


def test_a_close_ends_every_wait(coordinator: Coordinator, threads: ThreadPoolExecutor) -> None:
    purchases = [ask(coordinator.agent("ada")) for _ in range(5)]
    waits = [waiting(threads, coordinator, purchase, "final") for purchase in purchases]

    coordinator.close()

    for wait in waits:
        with pytest.raises(CoordinatorClosed):
            wait.result(LONG)


def test_an_await_that_is_cancelled_leaves_nothing_behind(coordinator: Coordinator) -> None:
    purchase = ask(coordinator.agent("ada"))

    async def give_up() -> None:
        wait = asyncio.create_task(coordinator.await_for(purchase.id, timeout_seconds=LONG))
        while not len(coordinator._watcher):
            await asyncio.sleep(0)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)

    asyncio.run(give_up())

    assert len(coordinator._watcher) == 0
    assert coordinator.get(purchase.id).status is Status.APPROVED


@pytest.mark.on_postgresql
def test_a_wait_goes_on_while_the_database_is_away(
    coordinator: Coordinator,
    postgresql: PostgresqlServer,
    threads: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    purchase, other = (ask(coordinator.agent("ada")) for _ in range(2))
    wait = waiting(threads, coordinator, purchase, "final")
    asking = waiting(threads, coordinator, other, "final")
    with caplog.at_level("WARNING"):
        postgresql.control("stop", "-m", "fast")
        while "changes_not_read" not in caplog.text:
            sleep(0)
        with pytest.raises(LedgerUnavailable):
            coordinator.wait_for(purchase.id, timeout_seconds=0)
        postgresql.restart()

    coordinator.cancel(purchase.id, by="alice")

    assert wait.result(LONG).status is Status.CANCELLED
    coordinator.cancel(other.id, by="alice")
    assert asking.result(LONG).status is Status.CANCELLED


def test_a_subscriber_that_raises_leaves_the_others_told(
    coordinator: Coordinator, threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(changes: object) -> None:
        raise KeyError("a bug of a subscriber")

    purchase = ask(coordinator.agent("ada"))
    coordinator.wiring.changes.subscribe(refuse)
    wait = waiting(threads, coordinator, purchase, "final")

    coordinator.cancel(purchase.id, by="alice")

    assert wait.result(LONG).status is Status.CANCELLED
    assert "change_not_told" in caplog.text
