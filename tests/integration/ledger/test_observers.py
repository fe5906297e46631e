"""Observers are told after the commit, and can neither change nor delay what they are told of."""

from __future__ import annotations

import dataclasses
import logging
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from coordinator import Coordinator, Denied, Event, InvalidRequest
from coordinator.api import observers
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.notices import Notice, Severity
from coordinator.domain.usdc import Usdc
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, NOON, Clock, ask, contents, rows
from tests.integration.stores import on_both

WITHIN_SECONDS = 30
ALL_BUT_ALERTS = ("decision", "check", "hold", "post", "void")


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def next(self, count: int = 1) -> list[Event]:
        return [self._events.get(timeout=WITHIN_SECONDS) for _ in range(count)]

    def kinds(self, count: int) -> list[tuple[str, str | None]]:
        return [(event.kind, event.outcome) for event in self.next(count)]

    @property
    def nothing(self) -> bool:
        return self._events.empty()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@on_both
def test_a_decision_its_hold_and_a_check_are_told_with_what_was_asked(
    coordinator: Coordinator, seen: Seen
) -> None:
    coordinator.observe(seen, ALL_BUT_ALERTS)
    ada = coordinator.agent("ada")
    purchase = ask(ada, "7.00", idempotency_key="one")
    ids = {"purchase_id": purchase.id}
    decision, hold = seen.next(2)
    assert decision == Event(
        kind="decision", at=NOON, agent="ada", amount=Usdc("7"), outcome="approved", ids=ids
    )
    assert (hold.kind, hold.amount, hold.outcome) == ("hold", Usdc("7"), "purchase")
    assert hold.ids == ids
    # The same purchase again is no decision.
    assert ask(ada, "7.00", idempotency_key="one").id == purchase.id
    ada.check(amount="60", provider="paper-api", purpose="x")
    (check,) = seen.next()
    assert (check.kind, check.outcome, check.reason) == (
        "check",
        "awaiting_approval",
        "approval_required",
    )
    assert ask(coordinator.agent("mallory")).denied
    (denied,) = seen.next()
    assert (denied.outcome, denied.reason) == ("denied", "agent_not_registered")


@on_both
def test_every_hold_that_ends_is_told(opener: Opener, seen: Seen, clock: Clock) -> None:
    coordinator = opener()
    coordinator.observe(seen, ("post", "void"))
    ada, feed = coordinator.agent("ada"), ChainFeed(coordinator)
    feed.open("1000")
    paid = ask(ada, "10.00")
    feed.fund(paid)
    for state in (EscrowState.STARTED, EscrowState.DELIVERED):
        feed.move(paid, state)
    feed.settle(paid)
    assert feed.finalise() == 1
    (post,) = seen.next()
    assert (post.kind, post.agent, post.amount) == ("post", "ada", Usdc("10"))
    gone = [ask(ada, "5.00"), *(ask(ada, "60.00") for _ in range(2))]
    assert gone[1].approval_id is not None
    assert coordinator.cancel(gone[0].id, by="ada").done
    assert coordinator.reject(gone[1].approval_id, approver="alice", reason="no").done
    clock.now += HOUR
    ask(ada, "1.00")
    voided = seen.next(3)
    assert {event.kind for event in voided} == {"void"}
    assert [event.ids["purchase_id"] for event in voided] == [one.id for one in gone]
    assert [event.amount for event in voided] == [Usdc("5"), Usdc("60"), Usdc("60")]
    # Cancelled already.
    assert coordinator.cancel(gone[0].id, by="ada").done
    assert seen.nothing


@on_both
def test_costs_without_an_escrow_are_told_like_purchases(opener: Opener, seen: Seen) -> None:
    coordinator = opener({"agents": {"ada": {"total_limit": "10"}}})
    coordinator.observe(seen, ALL_BUT_ALERTS)
    ada = coordinator.agent("ada")
    assert not ada.check_hold("4").reasons
    with ada.hold("4") as hold:
        hold.post("3")
    with pytest.raises(Denied), ada.hold("8"):
        pass
    ada.record("2")
    events = seen.next(6)
    assert [(e.kind, e.outcome, e.amount) for e in events] == [
        ("check", "approved", Usdc("4")),
        ("decision", "approved", Usdc("4")),
        ("hold", "off_chain", Usdc("4")),
        ("post", "off_chain", Usdc("3")),
        ("decision", "denied", Usdc("8")),
        ("post", "off_chain", Usdc("2")),
    ]
    assert events[4].reason == "total_limit"
    assert {e.agent for e in events} == {"ada"}
    assert events[1].ids == events[2].ids == events[3].ids


def test_closing_a_session_tells_what_it_gives_back(opener: Opener, seen: Seen) -> None:
    coordinator = opener({"sessions": {"default": {"total_limit": "100"}}})
    session = coordinator.open_session("s1", agent="ada", by="olga")
    bought = ask(coordinator.agent("ada"), "5.00", session="s1")
    coordinator.observe(seen, ["void"])
    session.close()
    (void,) = seen.next()
    assert (void.ids, void.amount) == ({"purchase_id": bought.id}, Usdc("5"))


def test_alerts_of_every_process_are_told_and_only_those_from_now_on(
    opener: Opener, seen: Seen
) -> None:
    coordinator, other = opener(), opener()
    assert ask(other.agent("mallory")).denied
    coordinator.observe(seen, ["alert"])
    other.wiring.notices.tell([Notice("k", NOON, "a_kind", Severity.INFO, "a subject", "hear")])
    (alert,) = seen.next()
    assert (alert.kind, alert.outcome, alert.reason) == ("alert", "a_kind", "hear")


def test_one_that_hangs_delays_no_decision(coordinator: Coordinator) -> None:
    told, go_on = threading.Event(), threading.Event()

    def hang(event: Event) -> None:
        told.set()
        go_on.wait(WITHIN_SECONDS)

    coordinator.observe(hang, ["decision"])
    assert ask(coordinator.agent("ada")).status == "approved"
    assert told.wait(WITHIN_SECONDS)
    assert [ask(coordinator.agent("ada")).status for _ in range(20)] == ["approved"] * 20
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("raised", [ValueError("mine"), SystemExit(3)])
def test_what_one_raises_is_logged_once_a_kind_and_takes_nothing_from_the_others(
    coordinator: Coordinator, seen: Seen, caplog: pytest.LogCaptureFixture, raised: BaseException
) -> None:
    def fail(event: Event) -> None:
        raise raised

    coordinator.observe(fail, ALL_BUT_ALERTS)
    coordinator.observe(seen, ALL_BUT_ALERTS)
    for _ in range(3):
        assert ask(coordinator.agent("ada")).status == "approved"
    assert seen.kinds(6) == [("decision", "approved"), ("hold", "purchase")] * 3
    logged = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert logged == ["observer_failed kind=decision", "observer_failed kind=hold"]


def test_one_that_changes_the_event_changes_nothing(coordinator: Coordinator, seen: Seen) -> None:
    refused: SimpleQueue[type[Exception]] = SimpleQueue()

    def meddle(event: Any) -> None:
        for change in (
            lambda: setattr(event, "amount", Usdc("0")),
            lambda: event.ids.clear(),
        ):
            try:
                change()
            except Exception as fault:
                refused.put(type(fault))

    coordinator.observe(meddle, ["decision"])
    coordinator.observe(seen, ["decision"])
    purchase = ask(coordinator.agent("ada"), "7.00")
    (event,) = seen.next()
    assert (event.amount, event.ids) == (Usdc("7"), {"purchase_id": purchase.id})
    assert refused.get(timeout=1) is dataclasses.FrozenInstanceError
    assert refused.get(timeout=1) is AttributeError


def test_a_full_queue_drops_and_counts(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr(observers, "QUEUE_MAX", 2)
    told, go_on = threading.Event(), threading.Event()

    def hang(event: Event) -> None:
        told.set()
        go_on.wait(WITHIN_SECONDS)
        seen(event)

    coordinator.observe(hang, ["decision"])
    first = ask(coordinator.agent("ada"))
    assert told.wait(WITHIN_SECONDS)
    others = [ask(coordinator.agent("ada")) for _ in range(5)]
    assert coordinator.observers_dropped == 3
    go_on.set()
    kept = [event.ids["purchase_id"] for event in seen.next(3)]
    assert kept == [first.id, others[0].id, others[1].id]
    assert seen.nothing


def test_nothing_that_was_not_committed_is_told(
    coordinator: Coordinator, seen: Seen, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.observe(seen, ALL_BUT_ALERTS)
    before = contents(database)
    with monkeypatch.context() as patched:
        patched.setattr(coordinator.wiring.audit, "append_all", _broken)
        with pytest.raises(RuntimeError, match="broken"):
            ask(coordinator.agent("ada"))
    assert contents(database) == before
    purchase = ask(coordinator.agent("bert"))
    assert [event.ids["purchase_id"] for event in seen.next(2)] == [purchase.id] * 2


def _broken(*_: object) -> None:
    raise RuntimeError("broken")


def test_an_unknown_kind_is_refused(coordinator: Coordinator, seen: Seen) -> None:
    for kinds in (["decisions"], []):
        with pytest.raises(InvalidRequest):
            coordinator.observe(seen, kinds)


def test_a_fault_after_the_commit_is_not_taken_for_one_of_the_work(
    opener: Opener, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = opener()

    def fail(_: object) -> None:
        raise RuntimeError("after the commit")

    coordinator.wiring.transactions.emit = fail
    assert coordinator.agent("ada").record("2.00").ok
    assert rows(database, "SELECT count(*), sum(posted) FROM holds") == [(1, 2_000_000)]
    assert [r for r in caplog.records if r.message == "events_not_told"]
