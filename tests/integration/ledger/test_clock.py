"""A clock that jumps, either way and over midnight: nothing is counted twice or comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Coordinator, Status
from coordinator.domain.errors import LeaseLost
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.tx.leases import Lease, LeaseBook, fence
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    USDC,
    Clock,
    ask,
    assert_books_agree,
    counter,
    edit,
    rows,
)
from tests.integration.stores import on_both

pytestmark = on_both
TODAY = NOON - 12 * HOUR
JUMPS = pytest.mark.parametrize("jump", [-DAY, -HOUR, HOUR, DAY], ids="{:+d}s".format)


# The lease


@pytest.fixture
def leases(coordinator: Coordinator, clock: Clock) -> LeaseBook:
    return LeaseBook(
        coordinator.wiring.database, chain_id=1, signer="0xabc", now_ms=lambda: clock.now * 1000
    )


def may_commit(coordinator: Coordinator, lease: Lease) -> bool:
    try:
        with coordinator.wiring.database.write() as connection:
            fence(connection, lease)
    except LeaseLost:
        return False
    return True


@JUMPS
def test_at_most_one_holder_may_commit_however_the_clock_jumps(
    coordinator: Coordinator, database: str, clock: Clock, leases: LeaseBook, jump: int
) -> None:
    first = leases.acquire("one", seconds=15)
    assert first is not None
    # Its process is on another host, so only time tells.
    edit(database, "UPDATE leases SET host = 'elsewhere'")
    clock.now += jump

    second = leases.acquire("two", seconds=15)

    # Only a clock that went on may end a lease.
    assert (second is not None) == (jump > 0)
    assert may_commit(coordinator, first) == (second is None)
    clock.now -= jump
    if second is not None:
        assert leases.acquire("one", seconds=15) is None
        assert not may_commit(coordinator, first)
        assert may_commit(coordinator, second)


@JUMPS
def test_a_holder_that_renews_after_a_jump_is_taken_over_within_its_seconds(
    coordinator: Coordinator, database: str, clock: Clock, leases: LeaseBook, jump: int
) -> None:
    assert leases.acquire("one", seconds=15) is not None
    clock.now += jump
    renewed = leases.acquire("one", seconds=15)
    assert renewed is not None
    edit(database, "UPDATE leases SET host = 'elsewhere'")

    clock.now += 14
    assert leases.acquire("two", seconds=15) is None
    clock.now += 1
    assert leases.acquire("two", seconds=15) is not None
    assert not may_commit(coordinator, renewed)


def test_no_lease_of_a_dead_holder_is_believed_longer_than_its_seconds(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    ticks = [0.0]
    first, second = (
        LeaseBook(
            coordinator.wiring.database,
            chain_id=1,
            signer="0xabc",
            now_ms=lambda: clock.now * 1000,
            ticks=lambda: ticks[0],
        )
        for _ in range(2)
    )
    assert first.acquire("one", seconds=10) is not None
    edit(database, "UPDATE leases SET host = 'elsewhere'")
    clock.now -= 6 * 3600
    assert second.acquire("two", seconds=10) is None
    assert not second.present().alive  # type: ignore[union-attr]

    # The clock stands still or steps on; the process's own ticks tell how long it was.
    ticks[0] += 9
    assert second.acquire("two", seconds=10) is None
    ticks[0] += 1
    assert second.acquire("two", seconds=10) is not None

    # Where the process slept its ticks stood still, and the clock tells.
    edit(database, "UPDATE leases SET host = 'elsewhere', expires_at_ms = expires_at_ms * 2")
    assert first.acquire("one", seconds=10) is None
    clock.now += 9
    assert first.acquire("one", seconds=10) is None
    clock.now += 1
    assert first.acquire("one", seconds=10) is not None

    # A holder that renews is believed from each renewal on.
    assert second.acquire("two", seconds=10) is None
    ticks[0] += 10
    assert second.acquire("two", seconds=10) is not None
    edit(database, "UPDATE leases SET host = 'elsewhere'")
    for _ in range(5):
        clock.now -= 60
        assert second.acquire("two", seconds=10) is not None
        edit(database, "UPDATE leases SET host = 'elsewhere'")
        ticks[0] += 6
        assert first.acquire("one", seconds=10) is None


def test_a_lease_that_another_takes_between_the_look_and_the_turn_to_write_is_respected(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    def leases(now_ms: Callable[[], int]) -> LeaseBook:
        return LeaseBook(coordinator.wiring.database, chain_id=1, signer="0xabc", now_ms=now_ms)

    def taken_meanwhile() -> int:
        if not quicker:
            quicker.append(first.acquire("quicker", seconds=10))
        return clock.now * 1000

    quicker: list[Lease | None] = []
    first, second = leases(lambda: clock.now * 1000), leases(taken_meanwhile)
    assert first.acquire("ended", seconds=10) is not None
    clock.now += 11
    assert second.acquire("slower", seconds=10) is None
    assert quicker != [None]
    assert rows(database, "SELECT holder FROM leases") == [("quicker",)]


# Approvals


def test_an_approval_that_expired_stays_so_when_the_clock_goes_back(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    waiting = ask(coordinator.agent("ada"), "75.00")
    clock.now += DAY
    assert not coordinator.approve(waiting.approval_id or "", approver="alice").done
    clock.now -= DAY

    assert not coordinator.approve(waiting.approval_id or "", approver="alice").done

    assert coordinator.get(waiting.id).status is Status.EXPIRED
    assert rows(database, "SELECT status, posted FROM holds") == [("voided", 0)]
    assert counter(database, "organisation", "", "total") == (0, 0)
    assert_books_agree(database)


def test_an_approval_given_on_the_day_before_it_was_asked_for_counts_once(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener({"agents": {"ada": {"daily_limit": "100"}}})
    waiting = ask(coordinator.agent("ada"), "75.00")
    clock.now -= DAY

    assert coordinator.approve(waiting.approval_id or "", approver="alice").done
    clock.now += 2 * DAY

    assert coordinator.get(waiting.id).status is Status.APPROVED
    assert counter(database, "agent", "ada", "total") == (75 * USDC, 0)
    # The day on which it was decided carries it, and no other.
    days = [TODAY - DAY, TODAY, TODAY + DAY]
    assert [counter(database, "agent", "ada", "daily", day)[0] for day in days] == [75 * USDC, 0, 0]
    assert_books_agree(database)


# Midnight


def test_a_clock_that_goes_back_over_midnight_finds_the_day_as_it_was_left(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener({"agents": {"ada": {"daily_limit": "10"}}})
    agent = coordinator.agent("ada")
    for now in (TODAY + DAY - 1, TODAY + DAY):
        clock.now = now
        assert ask(agent, "10.00").status is Status.APPROVED
        assert ask(agent).status is Status.DENIED

    for now in (TODAY + DAY - 1, TODAY + DAY, TODAY, TODAY + 2 * DAY - 1):
        clock.now = now
        assert ask(agent).status is Status.DENIED
    clock.now = TODAY + 2 * DAY
    assert ask(agent).status is Status.APPROVED

    assert counter(database, "agent", "ada", "daily", TODAY) == (10 * USDC, 0)
    assert counter(database, "agent", "ada", "daily", TODAY + DAY) == (10 * USDC, 0)
    assert_books_agree(database)
    assert verify(coordinator.wiring.audit).ok


def test_a_key_is_the_same_purchase_whatever_day_the_clock_says(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    found = []
    for jump in (0, DAY, -3 * DAY, 400 * DAY):
        clock.now += jump
        found.append(ask(coordinator.agent("ada"), "3.00", idempotency_key="papers").id)

    assert len(set(found)) == 1
    assert counter(database, "agent", "ada", "total") == (3 * USDC, 0)
    assert_books_agree(database)
