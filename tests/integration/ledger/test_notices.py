"""Notices are kept with what they tell of, and delivered by the real library to a real server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from coordinator import Coordinator, Denied
from coordinator.alerts.delivery import ANSWER_SECONDS, RETRY_SECONDS, Delivery, send_test
from coordinator.domain.notices import KeptNotice, Notice, Severity, began, passed
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.bonds import hold_bond
from coordinator.ledger.tx.notices import TRIES_MAX
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, NOON, Clock, ask, contents, policy
from tests.integration.ledger.receiver import TOKEN, Receiver, delivered, receiving
from tests.integration.stores import on_both

LIMITED = {"agents": {"ada": {"daily_limit": "100", "approval_threshold": "1000"}}}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


Deliver = Callable[..., Delivery]


@pytest.fixture
def deliver(clock: Clock) -> Iterator[Deliver]:
    made: list[Delivery] = []

    def make(coordinator: Coordinator, *receivers: Receiver, **terms: object) -> Delivery:
        targets = [(f"json://127.0.0.1/{n}", one.url) for n, one in enumerate(receivers)]
        book = coordinator.wiring.notices
        made.append(Delivery(book, lambda: targets, clock, **terms))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for delivery in made:
        delivery.stop()


def kinds(coordinator: Coordinator) -> list[str]:
    return [kept.notice.kind for kept in reversed(coordinator.wiring.notices.list())]


def newest(coordinator: Coordinator) -> KeptNotice:
    return coordinator.wiring.notices.list(limit=1)[0]


def tell(coordinator: Coordinator, *names: str) -> None:
    coordinator.wiring.notices.tell(
        Notice(name, NOON, "a_kind", Severity.CRITICAL, "a subject", name) for name in names
    )


# What is told


@on_both
def test_a_limit_is_told_once_at_each_threshold(opener: Opener) -> None:
    coordinator = opener(LIMITED)
    ada = coordinator.agent("ada")
    for amount in ("79", "1", "5", "15"):
        assert ask(ada, amount).status == "approved"
    told = [kept.notice for kept in reversed(coordinator.wiring.notices.list())]
    assert [n.message.partition(" %")[0] for n in told] == [
        f"agent:ada has used {mark}" for mark in (80, 90, 100)
    ]


@on_both
def test_denials_tell_who_tried_what_once_an_hour(opener: Opener, clock: Clock) -> None:
    coordinator = opener()
    for agent in ("mallory", "mallory", "trudy"):
        assert ask(coordinator.agent(agent), "7.00").denied
    assert ask(coordinator.agent("ada"), "7.00", provider="stranger").denied
    clock.now += HOUR
    assert ask(coordinator.agent("mallory"), "8.00").denied
    told = [kept.notice.message for kept in reversed(coordinator.wiring.notices.list())]
    assert len(told) == 3
    assert told[0].startswith("mallory asked to pay paper-api 7.00 USDC and was denied (agent_not")
    assert told[1].startswith("ada asked to pay stranger 7.00 USDC and was denied (provider_not")
    assert told[2].startswith("mallory asked to pay paper-api 8.00")


def test_a_check_tells_nobody(opener: Opener) -> None:
    coordinator = opener()
    terms = {"provider": "paper-api", "purpose": "x"}
    assert coordinator.agent("mallory").check(amount="1", **terms).outcome == "denied"
    assert kinds(coordinator) == []


def test_each_waiting_approval_is_told_and_approving_tells_the_windows_that_it_moves_to(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener({"agents": {"ada": {"hourly_limit": "100", "approval_threshold": "50"}}})
    clock.now += HOUR - 60
    waits = ask(coordinator.agent("ada"), "90")
    assert waits.approval_id is not None
    assert sorted(kinds(coordinator)) == ["approval_waits", "limit_threshold", "limit_threshold"]
    clock.now += 120
    assert coordinator.approve(waits.approval_id, approver="alice").done
    assert kinds(coordinator)[3:] == ["limit_threshold", "limit_threshold", "approval_decided"]


def test_a_bond_is_told_like_any_other_amount(opener: Opener) -> None:
    coordinator = opener({"organisation": {"total_limit": "100"}})
    purchase = ask(coordinator.agent("ada"), "50")
    terms = {"by": "alice", "why": "late", "now": NOON}
    refusal = coordinator.wiring.group_commit.run(
        lambda tx: hold_bond(tx, purchase.id, Usdc("30"), **terms)
    )
    assert refusal is None
    assert kinds(coordinator) == ["limit_threshold"]


def test_a_changed_policy_a_pause_and_a_stranded_purchase_are_told(opener: Opener) -> None:
    coordinator = opener()
    w = coordinator.wiring
    w.activate_policy(policy(LIMITED), author="olga", reason="less", now=NOON)
    assert "olga" in newest(coordinator).notice.message
    coordinator.pause("a look", by="bob", agent="ada")
    assert newest(coordinator).notice.severity is Severity.WARNING
    coordinator.unpause("looked", by="alice", agent="ada")
    w.operations.begin_recovery("the chain is ahead", now=NOON)
    assert newest(coordinator).notice.severity is Severity.CRITICAL
    purchase = ask(coordinator.agent("bert"))
    w.purchases.note_stranded(purchase.id, "only the provider can free it", now=NOON)
    told = ["limits_changed", "paused", "unpaused", "paused", "purchase_stranded"]
    assert [kind for kind in kinds(coordinator) if kind != "purchase_denied"] == told


def test_a_condition_stands_until_it_is_told_to_be_over(opener: Opener) -> None:
    book = opener().wiring.notices
    assert not book.is_active("drift")
    book.tell([began("drift", Severity.CRITICAL, "10 USDC", NOON)])
    assert book.is_active("drift")
    book.tell([passed("drift", "none", NOON + 1)])
    assert not book.is_active("drift")


def test_an_actual_cost_above_its_hold_is_told_at_the_thresholds_that_it_reaches(
    opener: Opener,
) -> None:
    changes = {"total_limit": "100", "approval_threshold": "unlimited"}
    coordinator = opener({"agents": {"ada": changes}})
    with coordinator.agent("ada").hold("70") as hold:
        hold.post("85")
    (told,) = coordinator.wiring.notices.list()
    assert told.notice.message == "agent:ada has used 80 % of its total limit: 85.00 of 100.00 USDC"


def test_a_refused_cost_is_told_like_any_other_denial(opener: Opener) -> None:
    coordinator = opener({"agents": {"ada": {"total_limit": "1"}}})
    with pytest.raises(Denied), coordinator.agent("ada").hold("2"):
        pass
    said = "ada asked to pay 2.00 USDC and was denied (total_limit)"
    assert newest(coordinator).notice.message.startswith(said)


# Delivery


@on_both
def test_each_target_gets_each_notice_with_its_severity(
    opener: Opener, deliver: Deliver, receiver: Receiver, other: Receiver
) -> None:
    coordinator = opener()
    delivery = deliver(coordinator, receiver, other)
    tell(coordinator, "one", "two@here <!channel> http://a")
    assert delivered(delivery)
    for one in (receiver, other):
        assert one.messages() == ["one", "two@\u200bhere (!channel> http:\u200b//a"]
        assert one.taken[0]["title"] == "critical: a kind"
        assert one.taken[0]["type"] == "failure"
    assert {(k.tries, k.due_at, k.delivered_at) for k in coordinator.wiring.notices.list()} == {
        (1, None, NOON)
    }
    assert delivered(delivery)
    assert len(receiver.taken) == 2


@on_both
def test_what_was_refused_is_tried_again_later_and_with_that_target_alone(
    opener: Opener, deliver: Deliver, receiver: Receiver, other: Receiver, clock: Clock
) -> None:
    coordinator = opener()
    delivery = deliver(coordinator, receiver, other)
    other.status = 500
    tell(coordinator, "one")
    assert delivered(delivery)
    kept = newest(coordinator)
    assert (kept.tries, kept.due_at, kept.delivered_at) == (1, NOON + RETRY_SECONDS, None)
    assert kept.fault == "json://127.0.0.1/1 did not take it"
    clock.now += RETRY_SECONDS - 1
    assert delivered(delivery)
    assert newest(coordinator).tries == 1
    clock.now += 1
    other.status = 200
    assert delivered(delivery)
    assert (receiver.messages(), other.messages()) == (["one"], ["one"])
    kept = newest(coordinator)
    assert (kept.tries, kept.due_at, kept.delivered_at, kept.fault) == (2, None, clock.now, None)


def test_it_gives_up_after_so_many_tries_and_keeps_the_fault(
    opener: Opener, deliver: Deliver, receiver: Receiver, clock: Clock
) -> None:
    coordinator = opener()
    delivery = deliver(coordinator, receiver)
    receiver.status = 500
    tell(coordinator, "one")
    for _ in range(TRIES_MAX + 2):
        assert delivered(delivery)
        clock.now += 2 * HOUR
    kept = newest(coordinator)
    assert (kept.tries, kept.due_at, kept.delivered_at) == (TRIES_MAX, None, None)
    assert kept.fault is not None
    assert coordinator.wiring.notices.last_tried() == kept


def test_a_hanging_target_delays_neither_a_decision_nor_another_target(
    opener: Opener, deliver: Deliver, receiver: Receiver, other: Receiver
) -> None:
    coordinator = opener()
    delivery = deliver(coordinator, receiver, other)
    other.hanging = True
    tell(coordinator, "one")
    delivery.hand_out()
    assert other.asked.acquire(timeout=30)
    assert ask(coordinator.agent("ada")).status == "approved"
    assert ask(coordinator.agent("mallory")).denied
    assert not other.released.is_set()
    assert receiver.asked.acquire(timeout=30)
    delivery.hand_out()
    assert receiver.asked.acquire(timeout=30)
    assert [m[:7] for m in receiver.messages()][:1] == ["one"]
    assert not other.released.is_set()


def test_a_target_that_never_answers_has_failed_after_a_while(
    opener: Opener, deliver: Deliver, receiver: Receiver, other: Receiver
) -> None:
    coordinator = opener()
    seconds = [0.0]
    delivery = deliver(coordinator, receiver, other, ticks=lambda: seconds[0])
    other.hanging = True
    tell(coordinator, "one")
    delivery.hand_out()
    assert other.asked.acquire(timeout=30)
    assert receiver.asked.acquire(timeout=30)
    seconds[0] = ANSWER_SECONDS + 1
    delivery.hand_out()
    assert newest(coordinator).tries == 1
    assert newest(coordinator).fault == f"no answer within {ANSWER_SECONDS} s"


def test_nothing_that_waited_for_nobody_is_delivered_when_somebody_is_named(
    opener: Opener, deliver: Deliver, receiver: Receiver
) -> None:
    coordinator = opener()
    w = coordinator.wiring
    delivery = deliver(coordinator, receiver)
    tell(coordinator, "old")
    w.activate_policy(
        policy({"alerts": {"notify": [receiver.url]}}),
        author="olga",
        reason="tell us",
        now=NOON,
    )
    assert delivered(delivery)
    assert [said["title"] for said in receiver.taken] == ["warning: limits changed"]
    assert kinds(coordinator) == ["a_kind", "limits_changed"]


@on_both
def test_no_token_is_logged_or_stored(
    opener: Opener,
    deliver: Deliver,
    receiver: Receiver,
    database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    coordinator = opener(policy({"alerts": {"notify": [receiver.url]}}))
    receiver.status = 500
    tell(coordinator, "one")
    with caplog.at_level(logging.DEBUG):
        ((shown, url),) = coordinator.wiring.notify_urls()
        delivery = Delivery(coordinator.wiring.notices, coordinator.wiring.notify_urls, Clock())
        assert delivered(delivery)
        delivery.stop()
        assert send_test([(shown, url), ("bad://…", f"bad://{TOKEN}")], NOON) == [
            ("json://127.0.0.1", "json://127.0.0.1 did not take it"),
            ("bad://…", "bad://…: apprise does not know this URL"),
        ]
    assert url == receiver.url
    assert receiver.asked.acquire(timeout=1)
    assert newest(coordinator).fault == "json://127.0.0.1 did not take it"
    assert "notice_not_delivered" in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(contents(database))


def test_a_process_that_lacks_a_url_delivers_to_the_others(
    opener: Opener, receiver: Receiver
) -> None:
    coordinator = opener(policy({"alerts": {"notify": ["env:NOT_SET", receiver.url]}}))
    targets = coordinator.wiring.notify_urls()
    assert targets == [("env:NOT_SET", None), ("json://127.0.0.1", receiver.url)]
    assert send_test(targets, NOON) == [
        ("env:NOT_SET", "env:NOT_SET: this process lacks its URL"),
        ("json://127.0.0.1", None),
    ]
