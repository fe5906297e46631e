"""A database for each test, and coordinators on it that are closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.coordinator import Coordinator
from coordinator.config import read_policy
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.policy.policy import Policy
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import (
    Clock,
    ask,
    assert_books_agree,
    assert_log_is_whole,
    open_coordinator,
    policy,
)
from tests.integration.stores import Store, file_of

Opener = Callable[..., Coordinator]


@pytest.fixture
def path(database: str) -> Path:
    """The database's file, for what is about files."""
    return file_of(database)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(store: Store) -> str:
    """The address of the test's database; ``opener`` makes it."""
    return store.url()


@pytest.fixture
def opener(database: str, clock: Clock, store: Store) -> Iterator[Opener]:
    """Opens coordinators on the database with a policy (or changes of the usual one).

    The policy is in force afterwards, applied by hand where it must be.
    """
    opened: list[Coordinator] = []

    def open_one(changes: Policy | Path | dict[str, Any] | None = None, **terms: Any) -> Any:
        chosen = changes if isinstance(changes, Policy | Path) else policy(changes)
        url = store.migrated(terms.pop("database", database))
        opened.append(open_coordinator(url, chosen, **{"clock": clock, **terms}))
        # The first use of a part writes: the policy in force, what the database belongs to.
        wiring = opened[-1].wiring
        wiring.treasury  # noqa: B018
        if wiring.database.many_hosts:
            wiring.activate_policy(
                read_policy(chosen),
                author="olga",
                reason="read from policy.toml",
                now=wiring.clock(),
            )
        return opened[-1]

    yield open_one
    for coordinator in opened:
        coordinator.close()


@pytest.fixture
def whole(opener: Opener, database: str) -> Iterator[None]:
    """After the test the books agree and the audit log is whole."""
    yield
    assert_books_agree(database)
    assert_log_is_whole(database)


@pytest.fixture
def coordinator(opener: Opener) -> Coordinator:
    """One coordinator with the usual policy."""
    return opener()


@pytest.fixture
def lived(coordinator: Coordinator) -> Coordinator:
    """A coordinator after two whole lives: one purchase settled, one cancelled with a penalty."""
    feed = ChainFeed(coordinator)
    feed.open("1000")
    feed.deposit("5")
    for end in (feed.settle, feed.cancel):
        purchase = ask(coordinator.agent("ada"), "10.00")
        feed.fund(purchase)
        feed.move(purchase, EscrowState.STARTED)
        if end == feed.settle:
            feed.move(purchase, EscrowState.DELIVERED)
        end(purchase)
    assert feed.finalise() == 2
    return coordinator
