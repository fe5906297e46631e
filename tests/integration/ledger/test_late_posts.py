"""What was spent counts, however its hold had ended before its owner said what it came to."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from typing import Any

import pytest

from coordinator import Coordinator, Usdc
from coordinator.api.hold import Hold
from coordinator.domain.observed import Event
from coordinator.domain.purchase.cost import CostStatus
from coordinator.ledger.restore.audit_import import Rebirth
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    NOON,
    USDC,
    Clock,
    contents,
    counter,
    policy,
    rows,
)
from tests.integration.stores import Store, on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
TODAY = NOON - NOON % DAY
LIMITED: dict[str, Any] = {"agents": {"ada": {"daily_limit": "100", "approval_threshold": "100"}}}
Ending = Callable[[Coordinator, Hold, Clock], None]


def close_session(coordinator: Coordinator, hold: Hold, clock: Clock) -> None:
    coordinator.session("s").close()


def close_task(coordinator: Coordinator, hold: Hold, clock: Clock) -> None:
    coordinator.task("t").close()


def void_by_operator(coordinator: Coordinator, hold: Hold, clock: Clock) -> None:
    coordinator.wiring.budgets.void(hold.id, by_owner=False)


def disable_and_close(coordinator: Coordinator, hold: Hold, clock: Clock) -> None:
    coordinator.disable_agent("ada", by="olga", reason="misbehaves")
    coordinator.session("s").close()


def remove_and_close(coordinator: Coordinator, hold: Hold, clock: Clock) -> None:
    wiring = coordinator.wiring
    wiring.activate_policy(
        policy({"agents": {"ada": None}}),
        author="olga",
        reason="a test",
        now=clock(),
    )
    coordinator.session("s").close()


VOIDED = {
    "session closed": close_session,
    "task closed": close_task,
    "voided by an operator": void_by_operator,
    "agent disabled": disable_and_close,
    "agent removed": remove_and_close,
}


def held(coordinator: Coordinator, amount: str = "60.00") -> Hold:
    coordinator.open_session("s", "ada")
    coordinator.open_task("t", "ada")
    hold = coordinator.agent("ada").hold(amount, session="s", task="t", expires_after="15m")
    assert hold.ok
    return hold


def used_today(database: str) -> tuple[int, int]:
    """(held, spent), which every counter that the hold touched must say alike."""
    found = counter(database, "agent", "ada", "daily", TODAY)
    for kind, name in (("organisation", ""), ("session", "s"), ("task", "t")):
        assert counter(database, kind, name, "total") == found
    return found


def told(database: str) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT subject FROM notices WHERE kind = 'cost_posted_late'")


@pytest.mark.pairwise
@pytest.mark.parametrize("actual", ["0.31", "60.00", "1000.00"])
@pytest.mark.parametrize("end", VOIDED.values(), ids=list(VOIDED))
def test_what_is_posted_after_a_hold_was_given_back_counts_beyond_limits_once(
    opener: Opener, database: str, clock: Clock, end: Ending, actual: str
) -> None:
    coordinator = opener(LIMITED)
    hold = held(coordinator)
    end(coordinator, hold, clock)
    assert used_today(database) == (0, 0)
    clock.now += 1

    posted = hold.post(actual)

    units = Usdc(actual).base_units
    assert (posted.status, posted.posted, posted.ok) == (CostStatus.POSTED, Usdc(actual), True)
    assert used_today(database) == (0, units)
    assert told(database) == [(hold.id,)]
    said = "SELECT event FROM audit WHERE subject = ? ORDER BY seq"
    events = [("cost_held",), ("cost_voided",), ("cost_posted",)]
    assert rows(database, said, hold.id) == events
    once = contents(database)
    assert hold.post(actual).posted == Usdc(actual)
    assert hold.post("5000.00").posted == Usdc(actual)
    assert hold.void().status is CostStatus.POSTED
    assert contents(database) == once


def test_what_was_posted_late_fills_the_limit_and_its_thresholds_are_told(
    opener: Opener, database: str
) -> None:
    coordinator = opener(LIMITED)
    ada = coordinator.agent("ada")
    with ada.open_session("s"):
        hold = ada.hold("60.00", session="s")
    hold.post("100.00")
    assert ada.hold("0.01").denied
    crossed = "SELECT count(*) FROM notices WHERE kind = 'limit_threshold' AND subject = ?"
    assert rows(database, crossed, "agent:ada") == [(3,)]


def test_leaving_a_block_after_its_session_was_closed_counts_the_whole_amount(
    opener: Opener, database: str
) -> None:
    coordinator = opener(LIMITED)
    with held(coordinator):
        coordinator.session("s").close()
    assert used_today(database) == (0, 60 * USDC)


def test_a_block_that_fails_after_its_session_was_closed_counts_nothing(
    opener: Opener, database: str
) -> None:
    coordinator = opener(LIMITED)
    with pytest.raises(RuntimeError), held(coordinator):
        coordinator.session("s").close()
        raise RuntimeError("the model is gone")
    assert used_today(database) == (0, 0)
    assert told(database) == []


def test_more_than_was_counted_of_an_abandoned_hold_counts_and_less_does_not(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(LIMITED)
    hold = held(coordinator)
    clock.now += 15 * 60
    assert coordinator.wiring.costs.post_abandoned(now=clock()) == 1
    assert hold.post("1.00").posted == Usdc("60.00")
    assert (used_today(database), told(database)) == ((0, 60 * USDC), [])
    assert hold.post("75.00").posted == Usdc("75.00")
    assert (used_today(database), told(database)) == ((0, 75 * USDC), [(hold.id,)])
    assert hold.post("80.00").posted == Usdc("75.00")


def test_it_counts_in_the_day_of_its_hold_and_in_the_counters_that_came_meanwhile(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(LIMITED)
    hold = held(coordinator)
    coordinator.session("s").close()
    clock.now += DAY
    wiring = coordinator.wiring
    weekly = {"agents": {"ada": {"weekly_limit": "500"}}}
    wiring.activate_policy(
        policy(weekly),
        author="olga",
        reason="a test",
        now=clock(),
    )
    hold.post("10.00")
    assert used_today(database) == (0, 10 * USDC)
    assert counter(database, "agent", "ada", "weekly", TODAY - 3 * DAY) == (0, 10 * USDC)


@pytest.mark.parametrize("end", [close_session, None], ids=["session closed", "expired"])
def test_it_counts_after_a_restart_and_after_the_database_was_lost(
    opener: Opener, database: str, store: Store, clock: Clock, end: Ending | None
) -> None:
    coordinator = opener(LIMITED)
    hold = held(coordinator)
    if end is not None:
        end(coordinator, hold, clock)
    else:
        clock.now += 15 * 60
        coordinator.wiring.costs.post_abandoned(now=clock())
    export = list(coordinator.wiring.audit.export())
    coordinator.close()

    again = opener(LIMITED)
    assert again.wiring.budgets.post(hold.id, "75.00").posted == Usdc("75.00")
    assert used_today(database) == (0, 75 * USDC)

    fresh = store.url("fresh")
    new = opener(LIMITED, database=fresh)
    at = Rebirth(start_block=0, final_number=0, nonces={}, now=clock())
    new.wiring.imports.carry_out(new.wiring.audit.read_export(export), at)
    assert new.wiring.budgets.post(hold.id, "75.00").posted == Usdc("75.00")
    assert used_today(fresh) == (0, 75 * USDC)
    assert new.wiring.budgets.post(hold.id, "80.00").posted == Usdc("75.00")


def test_observers_are_told_what_counts_more(opener: Opener) -> None:
    coordinator = opener(LIMITED)
    told: Queue[Event] = Queue()
    coordinator.observe(told.put, ("post", "void"))
    hold = held(coordinator)
    coordinator.session("s").close()
    hold.post("75.00")
    seen = [told.get(timeout=60) for _ in range(2)]
    assert [(event.kind, str(event.amount)) for event in seen] == [
        ("void", "60.00"),
        ("post", "75.00"),
    ]
