"""A purchase asked for again under another key is answered with the one that was made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import pytest

from coordinator import Coordinator, Status
from coordinator.ledger.spend.duplicates import DUPLICATE_SECONDS, LOOKED_AT_MAX
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    PROVIDER,
    USDC,
    Clock,
    ask,
    assert_books_agree,
    contents,
    counter,
)
from tests.integration.ledger.history import copy_lives, live_one
from tests.integration.ledger.test_concurrency import at_once
from tests.integration.ledger.test_decision_cost import (
    GROWING,
    MANY,
    instructions,
    plans,
    recorded,
)
from tests.integration.stores import on_both, on_either

SAME: list[dict[str, Any]] = [
    {"purpose": "the same in other words"},
    {"provider": PROVIDER},
    {"provider": PROVIDER.lower()},
    {"service": "papers"},
    {"category": "data"},
    {"task": "another-task"},
    {"session": "another-session"},
]
OTHER: list[dict[str, Any]] = [
    {"amount": "1.01"},
    {"service": "reviews"},
    {"provider": "data-api"},
    {"agent": "bert"},
]


@pytest.fixture
def buyer(opener: Opener) -> Coordinator:
    providers = {"data-api": {"address": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"}}
    runs = {"default": {"total_limit": "500"}}
    return opener({"providers": providers, "tasks": runs, "sessions": runs})


def once(coordinator: Coordinator, *, agent: str = "ada", **terms: Any) -> Any:
    """Ask to buy unless it repeats a purchase; what is not given is always the same."""
    return ask(coordinator.agent(agent), unless_duplicate=True, **terms)


@on_either
@pytest.mark.parametrize("terms", SAME, ids=str)
def test_the_same_thing_under_another_key_is_the_purchase_that_was_made(
    buyer: Coordinator, database: str, terms: dict[str, Any]
) -> None:
    first = once(buyer, idempotency_key="first")
    before = contents(database)

    found = once(buyer, idempotency_key="second", **terms)

    assert (found.id, found.idempotency_key) == (first.id, "first")
    assert contents(database) == before


@on_either
@pytest.mark.parametrize("terms", OTHER, ids=str)
def test_another_thing_is_bought(buyer: Coordinator, terms: dict[str, Any]) -> None:
    first = once(buyer)
    assert once(buyer, **terms).id != first.id


def test_whoever_does_not_ask_buys_again(buyer: Coordinator) -> None:
    first = once(buyer)
    assert ask(buyer.agent("ada")).id != first.id


def test_a_purchase_is_found_however_it_was_asked_for(buyer: Coordinator) -> None:
    first = ask(buyer.agent("ada"))
    assert once(buyer).id == first.id


@on_both
def test_what_is_older_than_ten_minutes_is_no_duplicate(buyer: Coordinator, clock: Clock) -> None:
    first = once(buyer)
    clock.now += DUPLICATE_SECONDS - 1
    assert once(buyer).id == first.id
    clock.now += 1
    assert once(buyer).id != first.id


def test_what_ended_unpaid_is_no_duplicate(buyer: Coordinator) -> None:
    cancelled = once(buyer)
    assert buyer.agent("ada").cancel(cancelled.id).done
    rejected = once(buyer, amount="75.00")
    assert buyer.reject(rejected.approval_id, approver="bob", reason="no").done

    assert once(buyer).status is Status.APPROVED
    assert once(buyer, amount="75.00").status is Status.AWAITING_APPROVAL


def test_a_denied_one_is_no_duplicate_and_is_judged_again(opener: Opener, clock: Clock) -> None:
    coordinator = opener({"agents": {"ada": {"hourly_limit": "1"}}})
    assert once(coordinator, amount="2.00").denied
    assert once(coordinator, amount="2.00").denied
    assert len(coordinator.purchases()) == 2


def test_a_purchase_that_used_up_the_limit_is_still_the_answer(opener: Opener) -> None:
    coordinator = opener({"agents": {"ada": {"daily_limit": "1"}}})
    first = once(coordinator)
    assert once(coordinator).id == first.id
    assert ask(coordinator.agent("ada")).denied


def test_a_settled_purchase_is_a_duplicate(lived: Coordinator) -> None:
    (settled,) = lived.purchases(status="settled")
    assert once(lived, amount="10.00").id == settled.id


@on_both
def test_of_many_that_ask_at_once_under_different_keys_exactly_one_buys(
    opener: Opener, database: str
) -> None:
    hosts = [opener(), opener()]

    found = at_once(lambda index: once(hosts[index % 2], idempotency_key=f"key-{index}"), 40)

    assert len({purchase.id for purchase in found}) == 1
    assert sum(purchase.idempotency_key == f"key-{n}" for n, purchase in enumerate(found)) == 1
    assert counter(database, "organisation", "", "total") == (USDC, 0)
    assert_books_agree(database)


@on_both
def test_of_several_in_one_transaction_exactly_one_buys(
    buyer: Coordinator, threads: ThreadPoolExecutor
) -> None:
    group, held, release = buyer.wiring.group_commit, Event(), Event()
    holding = threads.submit(group.run, lambda tx: (held.set(), release.wait(60)))
    assert held.wait(60)
    asked = [threads.submit(once, buyer, idempotency_key=f"key-{n}") for n in range(5)]
    while len(group._waiting) < len(asked):
        sleep(0)
    release.set()

    assert len({purchase.result().id for purchase in asked}) == 1
    assert holding.result()


@pytest.mark.parametrize("age", [0, DUPLICATE_SECONDS])
def test_looking_for_one_does_not_depend_on_how_many_the_agent_made(
    coordinator: Coordinator, path: Path, clock: Clock, age: int
) -> None:
    lived = live_one(coordinator)
    ChainFeed(coordinator).observe("1000000")
    clock.now += age
    counts = []
    for first, count in ((2, LOOKED_AT_MAX), (LOOKED_AT_MAX + 2, MANY)):
        copy_lives(path, lived, count=count, first=first)
        coordinator.cancel(once(coordinator, amount="2.00").id, by="ada")
        with instructions(coordinator) as steps:
            bought = once(coordinator, amount="2.00")
        counts.append(steps[0])
        coordinator.cancel(bought.id, by="ada")

    assert counts[1] <= counts[0] * 1.05


def test_looking_for_one_scans_no_table_that_grows(coordinator: Coordinator, path: Path) -> None:
    with recorded(coordinator) as statements:
        once(coordinator)

    looked = [one for one in plans(path, statements) if "purchases_1" in one[1]]

    assert {step for step, _ in looked if "SEARCH" in step}
    assert not [s for s, _ in looked if s.startswith("SCAN") and s.split()[1] in GROWING]
