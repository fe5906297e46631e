"""Notices are delivered when the ledger tells of them or they are due, not by looking all the time.

Where nothing tells, these tests end at their timeout: the slow beat is put off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from coordinator import Coordinator
from coordinator.alerts import delivery as module
from coordinator.alerts.delivery import Delivery
from coordinator.domain.notices import Notice, Severity
from coordinator.ledger.tx.changes import NOTICES
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import NOON, Clock, ask
from tests.integration.ledger.receiver import Receiver, receiving
from tests.integration.ledger.waits import LONG
from tests.integration.stores import on_both

pytestmark = on_both


class Acting:
    """Says whether this process acts, and counts how often it was asked."""

    def __init__(self) -> None:
        self.now = True
        self.asked = threading.Semaphore(0)

    def __call__(self) -> bool:
        self.asked.release()
        return self.now


@pytest.fixture
def acting() -> Acting:
    return Acting()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def start(
    receiver: Receiver, clock: Clock, acting: Acting, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Coordinator], None]]:
    monkeypatch.setattr(module, "_LOOK_SECONDS_MAX", 10 * LONG)
    made: list[Delivery] = []

    def begin(coordinator: Coordinator) -> None:
        w = coordinator.wiring
        targets = [("json://127.0.0.1", receiver.url)]
        made.append(Delivery(w.notices, lambda: targets, clock, acting=acting))
        made[-1].start(w.changes)
        assert acting.asked.acquire(timeout=LONG)

    yield begin
    for one in made:
        one.stop()


def tell(coordinator: Coordinator, at: int = NOON) -> None:
    notice = Notice("one", at, "a_kind", Severity.CRITICAL, "a subject", "a message")
    coordinator.wiring.notices.tell([notice])


def test_a_notice_of_another_process_is_delivered_because_the_ledger_tells_of_it(
    opener: Opener, receiver: Receiver, start: Callable[[Coordinator], None]
) -> None:
    start(opener())
    tell(opener())
    assert receiver.asked.acquire(timeout=LONG)


def test_a_notice_that_is_due_later_is_delivered_when_it_is_due(
    opener: Opener,
    receiver: Receiver,
    acting: Acting,
    clock: Clock,
    start: Callable[[Coordinator], None],
) -> None:
    coordinator = opener()
    tell(coordinator, at=NOON + 1)
    start(coordinator)
    assert acting.asked.acquire(timeout=LONG)
    assert not receiver.taken
    clock.now += 1
    assert receiver.asked.acquire(timeout=LONG)


def test_whoever_begins_to_act_delivers_what_waits(
    opener: Opener, receiver: Receiver, acting: Acting, start: Callable[[Coordinator], None]
) -> None:
    coordinator = opener()
    acting.now = False
    tell(coordinator)
    start(coordinator)
    acting.now = True
    coordinator.wiring.changes.look()
    assert receiver.asked.acquire(timeout=LONG)


def test_the_feed_tells_of_notices_apart_from_the_rows_of_the_log(opener: Opener) -> None:
    coordinator, other = opener(), opener()
    seen: list[frozenset[str] | None] = []
    told = threading.Semaphore(0)

    def note(changes: frozenset[str] | None) -> None:
        seen.append(changes)
        told.release()

    coordinator.wiring.changes.subscribe(note)
    assert told.acquire(timeout=LONG)
    tell(other)
    assert told.acquire(timeout=LONG)
    purchase = ask(other.agent("ada"))
    assert told.acquire(timeout=LONG)
    assert seen[:2] == [None, frozenset({NOTICES})]
    assert seen[2] is not None and purchase.id in seen[2]
