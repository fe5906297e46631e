"""A wait ends by its own purchase alone, and whoever waits is told of a close."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from coordinator import Coordinator, Purchase, Status
from coordinator.domain.errors import CoordinatorClosed
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import ask
from tests.integration.ledger.waits import LONG, waiting
from tests.integration.stores import edit, on_both

pytestmark = on_both


def until(told: Callable[[], bool]) -> None:
    while not told():
        sleep(0)


def test_a_purchase_that_is_taken_back_from_its_end_is_waited_for_on(
    coordinator: Coordinator, threads: ThreadPoolExecutor
) -> None:
    feed, books = ChainFeed(coordinator), coordinator.wiring.books
    feed.open()
    purchase = ask(coordinator.agent("ada"))
    feed.fund(purchase)
    fork = books.cursor()
    assert fork is not None
    wait = waiting(threads, coordinator, purchase, "final")
    (registered,) = coordinator._watcher._waits[purchase.id]

    feed.cancel(purchase)  # cancelled, but its hold ends with a final block alone
    until(lambda: registered.reached is not None)
    assert registered.seconds_left <= 2
    cursor = books.cursor()
    assert cursor is not None
    books.roll_back(cursor, fork, now=coordinator.wiring.clock())
    until(lambda: registered.reached is None)

    assert registered.seconds_left > 2 and not wait.done()
    feed.cancel(purchase)
    feed.finalise()
    assert wait.result(LONG).status is Status.CANCELLED


def test_a_purchase_that_can_not_be_read_ends_its_own_wait_alone(
    coordinator: Coordinator, database: str, threads: ThreadPoolExecutor
) -> None:
    broken, other = (ask(coordinator.agent("ada")) for _ in range(2))
    one = waiting(threads, coordinator, broken, "final")
    two = waiting(threads, coordinator, other, "final")
    edit(database, "UPDATE holds SET status = 'voided' WHERE purchase_id = ?", broken.id)
    end = "UPDATE purchases SET decision = ?, status = 'cancelled' WHERE id = ?"
    edit(database, end, "not json", broken.id)
    coordinator._watcher._look(None)  # as after an outage of the database

    with pytest.raises(ValueError):
        one.result(LONG)
    assert not two.done()
    coordinator.cancel(other.id, by="alice")
    assert two.result(LONG).status is Status.CANCELLED


def refuse_a_thread(patch: pytest.MonkeyPatch, name: str) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", refuse)


def test_a_wait_that_could_not_begin_leaves_the_next_one_served(
    coordinator: Coordinator, threads: ThreadPoolExecutor
) -> None:
    purchase = ask(coordinator.agent("ada"))
    with pytest.MonkeyPatch.context() as patch:
        refuse_a_thread(patch, "coordinator-changes")
        with pytest.raises(RuntimeError):
            coordinator.wait_for(purchase.id, until="final", timeout_seconds=LONG)

    assert len(coordinator._watcher) == 0
    wait = waiting(threads, coordinator, purchase, "final")
    coordinator.cancel(purchase.id, by="alice")
    assert wait.result(LONG).status is Status.CANCELLED


def test_a_coordinator_whose_thread_could_not_start_closes(coordinator: Coordinator) -> None:
    purchase = ask(coordinator.agent("ada"))
    with pytest.MonkeyPatch.context() as patch:
        refuse_a_thread(patch, "coordinator-changes")
        with pytest.raises(RuntimeError):
            coordinator.wait_for(purchase.id, until="final", timeout_seconds=LONG)
        coordinator.close()


def test_whoever_subscribes_disturbs_no_other_subscriber(coordinator: Coordinator) -> None:
    feed, told = coordinator.wiring.changes, threading.Event()
    seen: list[frozenset[str] | None] = []

    def first(changes: frozenset[str] | None) -> None:
        seen.append(changes)
        told.set()

    feed.subscribe(first)
    assert told.wait(LONG) and seen == [None]
    for _ in range(3):
        told.clear()
        with feed.watching() as second:
            assert second.wait(LONG) and told.wait(LONG)
    feed.unsubscribe(first)
    assert None not in seen[1:]


def test_a_fault_that_nobody_knows_does_not_end_the_reading_of_changes(
    coordinator: Coordinator, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = ask(coordinator.agent("ada"))
    wait = waiting(threads, coordinator, purchase, "final")
    feed, failed = coordinator.wiring.changes, threading.Event()
    read = feed._read

    def fail(seen: int) -> tuple[frozenset[str] | None, int]:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        return read(seen)

    monkeypatch.setattr(feed, "_read", fail)
    assert failed.wait(LONG)
    coordinator.cancel(purchase.id, by="alice")
    assert wait.result(LONG).status is Status.CANCELLED


def test_an_await_in_the_queue_is_told_of_the_close(coordinator: Coordinator) -> None:
    purchase = ask(coordinator.agent("ada"))
    release = threading.Event()

    async def run() -> object:
        busy = [asyncio.ensure_future(coordinator.off_loop(release.wait)) for _ in range(16)]
        await asyncio.sleep(0)
        wait = asyncio.create_task(coordinator.await_for(purchase.id, timeout_seconds=LONG))
        await asyncio.sleep(0)
        closing = threading.Thread(target=coordinator.close)
        closing.start()
        done = (await asyncio.gather(wait, return_exceptions=True))[0]
        release.set()
        await asyncio.gather(*busy)
        await asyncio.to_thread(closing.join)
        return done

    assert isinstance(asyncio.run(run()), CoordinatorClosed)


def test_who_cancels_an_await_in_the_queue_is_not_told_of_a_close(
    coordinator: Coordinator,
) -> None:
    purchase = ask(coordinator.agent("ada"))
    release = threading.Event()

    async def run() -> object:
        busy = [asyncio.ensure_future(coordinator.off_loop(release.wait)) for _ in range(16)]
        wait = asyncio.create_task(coordinator.await_for(purchase.id, timeout_seconds=LONG))
        await asyncio.sleep(0)
        wait.cancel()
        closing = threading.Thread(target=coordinator.close)
        closing.start()
        done = (await asyncio.gather(wait, return_exceptions=True))[0]
        release.set()
        await asyncio.gather(*busy)
        await asyncio.to_thread(closing.join)
        return done

    assert isinstance(asyncio.run(run()), asyncio.CancelledError)


@pytest.mark.parametrize("seconds", [0.001, LONG])
def test_an_await_while_it_closes_is_told_of_the_close(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    purchase = ask(coordinator.agent("ada"))
    go_on = threading.Event()
    close = coordinator.wiring.close

    def slowly() -> None:  # as long as the executor's last round takes
        go_on.wait(LONG)
        close()

    monkeypatch.setattr(coordinator._wiring, "close", slowly)

    async def run() -> object:
        closing = threading.Thread(target=coordinator.close)
        closing.start()
        while not coordinator._threads._shutdown:
            await asyncio.sleep(0)
        found = await asyncio.gather(
            coordinator.await_for(purchase.id, timeout_seconds=seconds), return_exceptions=True
        )
        go_on.set()
        await asyncio.to_thread(closing.join)
        return found[0]

    assert isinstance(asyncio.run(run()), CoordinatorClosed)


def test_an_await_that_began_before_the_close_is_told_of_it_at_once(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = ask(coordinator.agent("ada"))
    go_on = threading.Event()
    close = coordinator.wiring.close

    def slowly() -> None:
        go_on.wait(LONG)
        close()

    monkeypatch.setattr(coordinator._wiring, "close", slowly)

    async def run() -> Purchase | BaseException:
        wait = asyncio.create_task(coordinator.await_for(purchase.id, timeout_seconds=LONG))
        while not len(coordinator._watcher):
            await asyncio.sleep(0)
        closing = threading.Thread(target=coordinator.close)
        closing.start()
        found = await asyncio.gather(wait, return_exceptions=True)
        go_on.set()
        await asyncio.to_thread(closing.join)
        return found[0]

    assert isinstance(asyncio.run(run()), CoordinatorClosed)
