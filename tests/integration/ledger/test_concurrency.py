"""Limits, keys and approvals stay exact when threads and processes ask at the same moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

import pytest

from coordinator import Coordinator, IdempotencyConflict, InvalidRequest, Status
from coordinator.ledger.proofs.verification import verify
from tests.integration.ledger.child import Child
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    NOON,
    USDC,
    ask,
    assert_books_agree,
    contents,
    counter,
    counters,
    rows,
)
from tests.integration.stores import Store, on_both

pytestmark = on_both
Answer = TypeVar("Answer")
TODAY = NOON - NOON % DAY


def at_once(do: Callable[[int], Answer], count: int) -> list[Answer]:
    """``do(0)`` … ``do(count - 1)``, each in a thread of its own, started at one moment."""
    gate = threading.Barrier(count)

    def wait_and_do(index: int) -> Answer:
        gate.wait()
        return do(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_do, range(count)))


def test_agent_and_category_limits_are_exact_for_200_threads_of_5_requests(
    opener: Opener, database: str
) -> None:
    coordinator = opener(
        {"agents": {"ada": {"daily_limit": "250"}}, "categories": {"data": {"total_limit": "250"}}}
    )

    def five(index: int) -> list[tuple[str, Status]]:
        name, category = ("ada", "other") if index % 2 else ("bert", "data")
        agent = coordinator.agent(name)
        return [(name, ask(agent, category=category).status) for _ in range(5)]

    answers = Counter(answer for five_of in at_once(five, 200) for answer in five_of)

    assert answers == {
        ("ada", Status.APPROVED): 250,
        ("ada", Status.DENIED): 250,
        ("bert", Status.APPROVED): 250,
        ("bert", Status.DENIED): 250,
    }
    assert counter(database, "agent", "ada", "daily", TODAY) == (250 * USDC, 0)
    assert counter(database, "category", "data", "total") == (250 * USDC, 0)
    assert counter(database, "organisation", "", "total") == (500 * USDC, 0)
    assert dict(rows(database, "SELECT reason_code, count(*) FROM purchases GROUP BY 1")) == {
        None: 500,
        "daily_limit": 250,
        "category_limit": 250,
    }
    assert_books_agree(database)
    assert verify(coordinator.wiring.audit).ok


def test_the_organisations_limit_is_exact_for_200_threads_of_5_requests(
    opener: Opener, database: str
) -> None:
    coordinator = opener({"organisation": {"total_limit": "500.5"}})
    agents = [coordinator.agent(name) for name in ("ada", "bert", "cora", "dan")]

    def five(index: int) -> list[Status]:
        return [ask(agents[index % 4]).status for _ in range(5)]

    answers = Counter(status for five_of in at_once(five, 200) for status in five_of)

    assert answers == {Status.APPROVED: 500, Status.DENIED: 500}
    assert counter(database, "organisation", "", "total") == (500 * USDC, 0)
    assert rows(database, "SELECT count(*), sum(amount) FROM holds") == [(500, 500 * USDC)]
    assert_books_agree(database)
    assert verify(coordinator.wiring.audit).ok


def test_limits_are_exact_for_eight_processes_that_start_on_a_fresh_database(
    store: Store, opener: Opener
) -> None:
    first, second = store.make(store.url("agents")), store.make(store.url("organisation"))
    # One more of "dan", with a key that all of them share, fits each limit.
    phases: list[dict[str, Any]] = [
        {
            "database": first,
            "changes": {
                "agents": {"ada": {"daily_limit": "40"}},
                "categories": {"data": {"total_limit": "40"}},
            },
            "count": 10,
            "asks": [{"agent": "ada"}, {"agent": "bert", "category": "data"}],
        },
        {
            "database": second,
            "changes": {"organisation": {"total_limit": "81"}},
            "count": 10,
            "asks": [{"agent": "ada"}, {"agent": "bert"}],
        },
    ]
    children = [Child("buy", phases=phases) for _ in range(8)]
    try:
        assert [child.says() for child in children] == ["ready"] * 8
        for _ in phases:
            for child in children:
                child.go()
            told = [child.says() for child in children]
            assert len({answer["once"] for answer in told}) == 1
    finally:
        for child in children:
            child.__exit__()

    def spread(file: str) -> dict[tuple[str, str], int]:
        query = "SELECT agent, status, count(*) FROM purchases GROUP BY 1, 2"
        return {(agent, status): count for agent, status, count in rows(file, query)}

    assert spread(first) == {
        ("ada", "approved"): 40,
        ("ada", "denied"): 40,
        ("bert", "approved"): 40,
        ("bert", "denied"): 40,
        ("dan", "approved"): 1,
    }
    found = spread(second)
    assert sum(count for (_, status), count in found.items() if status == "approved") == 81
    assert sum(found.values()) == 161
    assert counter(second, "organisation", "", "total") == (81 * USDC, 0)
    for file, phase in zip((first, second), phases, strict=True):
        assert_books_agree(file)
        assert rows(file, "SELECT count(*) FROM policies") == [(1,)]
        assert rows(file, "SELECT count(*) FROM identity") == [(1,)]
        assert verify(opener(phase["changes"], database=file).wiring.audit).ok


def test_one_budget_is_exact_for_16_threads_and_8_processes_at_once(
    opener: Opener, database: str
) -> None:
    limited = {"agents": {"ada": {"daily_limit": "100"}}}
    coordinator = opener(limited)
    phase = {"database": database, "changes": limited, "count": 15, "asks": [{"agent": "ada"}]}
    children = [Child("buy", phases=[phase]) for _ in range(8)]
    try:
        assert [child.says() for child in children] == ["ready"] * 8
        for child in children:
            child.go()
        agent = coordinator.agent("ada")
        mine = Counter(
            status
            for ten in at_once(lambda _: [ask(agent).status for _ in range(10)], 16)
            for status in ten
        )
        theirs = [child.says()["spread"] for child in children]
    finally:
        for child in children:
            child.__exit__()

    approved = mine[Status.APPROVED] + sum(spread.get("ada approved", 0) for spread in theirs)
    denied = mine[Status.DENIED] + sum(spread.get("ada denied", 0) for spread in theirs)
    assert (approved, denied) == (100, 180)
    assert counter(database, "agent", "ada", "daily", TODAY) == (100 * USDC, 0)
    assert_books_agree(database)
    assert verify(coordinator.wiring.audit).ok


Turn = tuple[float, float, float]
"""When it was asked for, begun and done."""


def turns_of_four_writers(opener: Opener, database: str) -> list[list[Turn]]:
    """What four processes tell that wrote 60 times each, without a pause."""
    opener()
    children = [Child("write_in_turns", database=database, count=60) for _ in range(4)]
    try:
        assert [child.says() for child in children] == ["ready"] * 4
        assert [child.go().says() for child in children] == ["open"] * 4
        for child in children:
            child.go()
        return [child.says() for child in children]
    finally:
        for child in children:
            child.__exit__()


def test_of_four_processes_that_write_all_the_time_none_waits_for_long(
    opener: Opener, database: str
) -> None:
    told = turns_of_four_writers(opener, database)

    passed = []
    for number, mine in enumerate(told):
        others = [turn for other in told[:number] + told[number + 1 :] for turn in other]
        for asked, begun, _ in mine:
            passed.append(len([t for t in others if asked < t[1] and t[2] <= begun]))
    # Whoever has just written is not served again before those who waited meanwhile.
    assert passed.count(0) < 0.4 * len(passed)
    assert max(passed) <= 60


@pytest.mark.campaign
def test_the_longest_wait_of_four_writers_is_at_most_twenty_median_commits(
    opener: Opener, database: str
) -> None:
    told = [turn for turns in turns_of_four_writers(opener, database) for turn in turns]

    longest = max(begun - asked for asked, begun, _ in told)
    commit = median(done - begun for _, begun, done in told)
    print(f"longest wait {1000 * longest:.1f} ms, median commit {1000 * commit:.2f} ms")
    assert longest <= 20 * commit


def test_one_key_from_50_threads_at_once_is_one_purchase(
    coordinator: Coordinator, database: str
) -> None:
    agent = coordinator.agent("ada")

    found = at_once(lambda _: ask(agent, "3.00", idempotency_key="task-7"), 50)

    assert len({purchase.id for purchase in found}) == 1
    assert {purchase.status for purchase in found} == {Status.APPROVED}
    assert rows(database, "SELECT count(*) FROM purchases") == [(1,)]
    assert rows(database, "SELECT count(*) FROM audit WHERE event LIKE 'purchase_%'") == [(1,)]
    assert counter(database, "organisation", "", "total") == (3 * USDC, 0)
    assert_books_agree(database)


def test_one_key_belongs_to_each_agent_apart(coordinator: Coordinator, database: str) -> None:
    names = ("ada", "bert", "cora", "dan")

    found = at_once(lambda i: ask(coordinator.agent(names[i % 4]), idempotency_key="same"), 40)

    assert len({purchase.id for purchase in found}) == 4
    assert len({purchase.escrow_key for purchase in found}) == 4
    assert_books_agree(database)


def test_of_two_terms_raced_under_one_key_one_is_bought_and_the_other_refused(
    coordinator: Coordinator, database: str
) -> None:
    agent = coordinator.agent("ada")

    def either(index: int) -> str:
        try:
            return str(ask(agent, f"{1 + index % 2}.00", idempotency_key="raced").amount)
        except IdempotencyConflict:
            return "conflict"

    answers = Counter(at_once(either, 30))

    assert answers.pop("conflict") == 15
    assert list(answers.values()) == [15]
    assert rows(database, "SELECT count(*) FROM purchases") == [(1,)]
    assert_books_agree(database)


@pytest.mark.parametrize("required", [2, 3])
def test_each_approver_counts_once_however_often_and_at_once_they_approve(
    opener: Opener, database: str, required: int
) -> None:
    coordinator = opener({"approvals": {"required": required}})
    purchase = ask(coordinator.agent("ada"), "75.00")
    approval_id = purchase.approval_id or ""

    at_once(lambda i: coordinator.approve(approval_id, approver=("alice", "bob")[i % 2]), 20)

    expected = Status.APPROVED if required == 2 else Status.AWAITING_APPROVAL
    assert coordinator.get(purchase.id).status is expected
    decided = rows(database, "SELECT approver, decision FROM approval_decisions ORDER BY approver")
    assert decided == [("alice", "approved"), ("bob", "approved")]
    moved = rows(database, "SELECT count(*) FROM audit WHERE event = 'purchase_approved'")
    assert moved == [(1 if required == 2 else 0,)]
    assert counter(database, "agent", "ada", "total") == (75 * USDC, 0)
    assert_books_agree(database)


def test_approving_raced_with_rejecting_and_cancelling_ends_one_way(
    coordinator: Coordinator, database: str
) -> None:
    waiting = [ask(coordinator.agent("ada"), "75.00") for _ in range(10)]

    def decide(index: int) -> bool:
        purchase, way = waiting[index // 3], index % 3
        approval_id = purchase.approval_id or ""
        if way == 0:
            return coordinator.approve(approval_id, approver="alice").done
        if way == 1:
            return coordinator.reject(approval_id, approver="bob", reason="no").done
        return coordinator.cancel(purchase.id, by="ada").done

    done = at_once(decide, 30)

    allowed = {
        # Cancelling what was approved, while nothing is signed, is a second order that holds.
        Status.CANCELLED: {(False, False, True), (True, False, True)},
        Status.REJECTED: {(False, True, False)},
    }
    open_holds = 0
    for index, purchase in enumerate(waiting):
        status = coordinator.get(purchase.id).status
        assert tuple(done[index * 3 : index * 3 + 3]) in allowed[status]
        open_holds += status is Status.APPROVED
    assert counter(database, "organisation", "", "total") == (open_holds * 75 * USDC, 0)
    assert_books_agree(database)


def test_approving_judges_again_and_changes_nothing_when_it_does_not_fit_any_more(
    opener: Opener, database: str
) -> None:
    purchase = ask(opener().agent("ada"), "75.00")
    lowered = opener({"agents": {"ada": {"daily_limit": "74.99"}}})
    before = contents(database)

    answer = lowered.approve(purchase.approval_id or "", approver="alice")

    assert not answer.done
    assert answer.reason and answer.reason.code == "daily_limit"
    assert contents(database) == before
    assert lowered.get(purchase.id).status is Status.AWAITING_APPROVAL
    raised = opener({"agents": {"ada": {"daily_limit": "75"}}})
    assert raised.approve(purchase.approval_id or "", approver="alice").done
    assert_books_agree(database)


def test_approving_the_next_day_moves_the_hold_to_that_days_counters(
    opener: Opener, database: str, clock: Any
) -> None:
    limited = {"agents": {"ada": {"daily_limit": "100"}}}
    coordinator = opener({**limited, "approvals": {"expires_after": "2d"}})
    purchase = ask(coordinator.agent("ada"), "75.00")
    clock.now += DAY

    assert coordinator.approve(purchase.approval_id or "", approver="alice").done

    assert counter(database, "agent", "ada", "daily", TODAY) == (0, 0)
    assert counter(database, "agent", "ada", "daily", TODAY + DAY) == (75 * USDC, 0)
    assert counter(database, "agent", "ada", "total") == (75 * USDC, 0)
    assert_books_agree(database)


def test_a_refused_request_of_bad_form_races_with_good_ones_and_leaves_no_trace(
    coordinator: Coordinator, database: str
) -> None:
    agent = coordinator.agent("ada")

    def either(index: int) -> bool:
        if index % 2:
            return ask(agent).status is Status.APPROVED
        with pytest.raises(InvalidRequest):
            ask(agent, "-1")
        return True

    assert all(at_once(either, 40))
    assert rows(database, "SELECT count(*) FROM purchases") == [(20,)]
    # The hour and the total of organisation, agent, category and provider; the pair's total.
    assert sorted(counters(database).values()) == [(20 * USDC, 0)] * 9
