"""A pool's money shared out: sums conserved, each change audited, nothing held is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from coordinator import Coordinator, InvalidRequest, Usdc
from coordinator.domain.limits.increase import Increase
from coordinator.domain.limits.rules import Terms
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    HOUR,
    NOON,
    USDC,
    Clock,
    contents,
    counter,
    counters,
    rows,
)
from tests.integration.stores import on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
TODAY = NOON - NOON % DAY
CREW: dict[str, Any] = {
    "agents": {"ada": {"priority": 8}, "bert": {"priority": 4}, "cora": {"priority": 4}},
    "pools": {
        "crew": {
            "daily_limit": "100",
            "agents": ["ada", "bert", "cora"],
            "minimums": {"cora": "10"},
            "rebalance": {"priority_weight": 70, "usage_weight": 30, "usage_window": "7d"},
        }
    },
    "increases": {"maximum": "1000"},
}


def shares(coordinator: Coordinator, method: str) -> dict[str, str]:
    found = coordinator.share("crew", method).after
    assert sum(a.base_units for a in found.values()) == 100 * USDC
    return {agent: str(share) for agent, share in found.items()}


def applied(coordinator: Coordinator, method: str = "fixed") -> None:
    coordinator.apply_sharing(coordinator.share("crew", method), by="olga", reason="a test")


def allowed(coordinator: Coordinator) -> dict[str, Usdc]:
    """What each agent may spend of the pool a day, with what is granted at this moment."""
    w = coordinator.wiring
    return {
        agent: state.limit.amount
        for agent in ("ada", "bert", "cora")
        for state in w.limits.states(Terms(agent), now=w.clock())
        if state.limit.scope.kind == "pool_agent"
    }


def emergency(coordinator: Coordinator, amount: str, agent: str = "ada") -> Increase:
    asked = coordinator.agent(agent).request_emergency(
        amount, pool="crew", reason="a deadline", lasts="2h"
    )
    assert asked.waits
    return coordinator.approve_increase(asked.id, approver="alice")


def test_each_method_shares_the_whole_pool(opener: Opener) -> None:
    coordinator = opener(CREW)
    coordinator.agent("bert").record("30.00")
    coordinator.agent("cora").record("10.00")
    assert shares(coordinator, "fixed") == {
        "ada": "33.333334",
        "bert": "33.333333",
        "cora": "33.333333",
    }
    assert shares(coordinator, "by_usage") == {"ada": "0.00", "bert": "75.00", "cora": "25.00"}
    assert shares(coordinator, "by_priority") == {"ada": "45.00", "bert": "22.50", "cora": "32.50"}
    assert shares(coordinator, "rebalance") == {"ada": "31.50", "bert": "36.00", "cora": "32.50"}
    with pytest.raises(InvalidRequest, match="the method must be one of"):
        coordinator.share("crew", "by_magic")
    with pytest.raises(InvalidRequest, match="not a pool"):
        coordinator.share("others")


def test_usage_older_than_its_window_weighs_nothing(opener: Opener, clock: Clock) -> None:
    coordinator = opener(CREW)
    coordinator.agent("bert").record("30.00")
    clock.now += 7 * DAY + HOUR
    coordinator.agent("ada").record("1.00")
    assert shares(coordinator, "by_usage") == {"ada": "90.00", "bert": "0.00", "cora": "10.00"}


def test_a_look_changes_nothing(opener: Opener, database: str) -> None:
    coordinator = opener(CREW)
    before = contents(database)
    preview = coordinator.share("crew", "fixed").as_dict()
    assert (preview["pool"], preview["window"], preview["before"]) == ("crew", "daily", {})
    assert contents(database) == before


def test_applied_an_agents_part_is_a_limit_of_its_own(opener: Opener, database: str) -> None:
    coordinator = opener(CREW)
    ada = coordinator.agent("ada")
    assert not ada.check_hold("50.00").reasons
    applied(coordinator)
    (reason,) = ada.check_hold("33.333335").reasons
    assert reason.code.value == "pool_limit"
    assert not ada.check_hold("33.333334").reasons
    found = rows(database, "SELECT event, subject FROM audit WHERE event = 'pool_shared'")
    assert found == [("pool_shared", "crew")]
    assert coordinator.share("crew", "by_priority").before == allowed(coordinator)


def test_what_was_spent_before_counts_in_the_share(opener: Opener, database: str) -> None:
    coordinator = opener(CREW)
    coordinator.agent("ada").record("20.00")
    coordinator.agent("ada").hold("5.00")
    applied(coordinator)
    assert counter(database, "pool_agent", "crew/ada", "daily", TODAY) == (5 * USDC, 20 * USDC)
    assert not coordinator.agent("ada").check_hold("8.333334").reasons
    assert coordinator.agent("ada").check_hold("8.333335").reasons


def test_a_share_below_what_is_held_refuses_only_what_is_new(opener: Opener, database: str) -> None:
    coordinator = opener(CREW)
    held = coordinator.agent("ada").hold("50.00")
    before = counters(database)
    applied(coordinator)
    assert coordinator.agent("ada").hold("0.01").denied
    assert {k: v for k, v in counters(database).items() if k in before} == before
    assert held.post("50.00").ok
    assert coordinator.agent("bert").hold("33.00").ok


def test_the_newest_sharing_holds_and_withdrawing_a_share_does_not_bring_back_the_last(
    opener: Opener,
) -> None:
    coordinator = opener(CREW)
    applied(coordinator, "fixed")
    applied(coordinator, "by_priority")
    assert allowed(coordinator) == coordinator.share("crew", "by_priority").after
    (ada,) = [o for o in coordinator.overlays() if str(o.scope) == "pool_agent:crew/ada"]
    coordinator.withdraw_overlay(ada.id, by="olga", reason="a test")
    assert set(allowed(coordinator)) == {"bert", "cora"}


def test_an_apply_of_the_policy_file_drops_no_share(opener: Opener) -> None:
    applied(opener(CREW))
    before = allowed(opener(CREW))
    changed = opener(CREW | {"organisation": {"daily_limit": "1000"}})
    assert allowed(changed) == before


def test_only_a_whole_sharing_of_the_pools_agents_is_applied(opener: Opener, database: str) -> None:
    coordinator = opener(CREW)
    book, half = coordinator.wiring.budgets.allocations, Usdc("50")
    before = contents(database)
    for wrong in (
        {"ada": half, "bert": half},
        {"ada": half, "bert": half, "cora": Usdc("0.000001")},
        {"ada": half, "bert": half, "cora": Usdc("0"), "dan": Usdc("0")},
    ):
        with pytest.raises(InvalidRequest, match="the shares must"):
            book.apply("crew", wrong, by="olga", reason="a test", now=NOON)
    assert contents(database) == before


def test_an_emergency_moves_what_others_have_left_and_gives_it_back(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(CREW)
    applied(coordinator, "by_priority")
    before = allowed(coordinator)
    coordinator.agent("bert").record("12.50")

    moved = emergency(coordinator, "40.00")

    # bert keeps what it used, cora its minimum: 10 and 22.50 are there to move.
    assert (moved.granted, moved.amount) == (True, Usdc("32.50"))
    assert allowed(coordinator) == {"ada": Usdc("77.50"), "bert": Usdc("12.50"), "cora": Usdc("10")}
    assert sum((a for a in allowed(coordinator).values()), start=Usdc("0")) == Usdc("100")
    assert coordinator.agent("bert").hold("0.01").denied
    clock.now += 2 * HOUR
    assert allowed(coordinator) == before


def test_an_emergency_takes_nothing_that_its_giver_has_only_for_a_shorter_time(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(CREW)
    applied(coordinator)
    own = allowed(coordinator)["bert"]
    first = coordinator.agent("bert").request_increase(
        "50.00", scope="pool_agent:crew/bert", lasts="1h", reason="a rush"
    )
    assert coordinator.approve_increase(first.id, approver="alice").granted
    moved = emergency(coordinator, "500.00", "cora")
    assert moved.amount == own
    assert allowed(coordinator)["bert"] == Usdc("50")
    clock.now += HOUR
    assert allowed(coordinator)["bert"] == Usdc("0")
    assert sum(allowed(coordinator).values(), start=Usdc("0")) == Usdc("100")


def test_an_emergency_never_takes_from_a_higher_priority(opener: Opener) -> None:
    coordinator = opener(CREW)
    applied(coordinator, "by_priority")
    moved = emergency(coordinator, "40.00", "bert")
    assert moved.amount == Usdc("22.50")
    assert allowed(coordinator)["ada"] == Usdc("45")


def test_an_emergency_with_nothing_to_move_is_refused(opener: Opener) -> None:
    coordinator = opener(CREW)
    applied(coordinator, "by_priority")
    coordinator.agent("bert").record("30.00")
    coordinator.agent("cora").record("40.00")
    refused = emergency(coordinator, "5.00")
    assert refused.status.value == "rejected"
    assert refused.reason is not None and refused.reason.code.value == "pool_limit"
    assert coordinator.increases(waiting=False)[0].status.value == "rejected"


def test_withdrawing_an_emergency_gives_everything_back(opener: Opener) -> None:
    coordinator = opener(CREW)
    applied(coordinator, "by_priority")
    before = allowed(coordinator)
    emergency(coordinator, "30.00")
    grant = next(o for o in coordinator.overlays() if o.kind == "grant")
    coordinator.withdraw_overlay(grant.id, by="olga", reason="over")
    assert allowed(coordinator) == before


def test_an_emergency_needs_a_pool_that_was_shared_out_and_its_own(opener: Opener) -> None:
    coordinator = opener(CREW)
    for agent in ("ada", "dan"):
        with pytest.raises(InvalidRequest):
            coordinator.agent(agent).request_emergency("1.00", pool="crew", reason="now")


def test_usage_comes_from_counters_and_equals_the_holds(
    opener: Opener, database: str, clock: Clock
) -> None:
    coordinator = opener(CREW)
    ada, bert = coordinator.agent("ada"), coordinator.agent("bert")
    for hours in range(0, 50, 7):
        clock.now = NOON + hours * HOUR
        ada.record("1.25")
        ada.hold("0.50", expires_after="7d")
        bert.hold("3.00").post("2.00")
    whole = rows(
        database,
        "SELECT sum(CASE status WHEN 'held' THEN amount ELSE 0 END), sum(posted) FROM holds",
    )
    until = clock.now + 1
    for by, count in (("hour", 50), ("day", 3), ("week", 1), ("month", 1)):
        found = coordinator.usage("pool:crew", since=NOON, until=until, by=by)
        held = sum(one.usage.held.base_units for one in found)
        spent = sum(one.usage.spent.base_units for one in found)
        assert [(held, spent)] == whole
        assert len(found) == count
        assert all(a.end == b.start for a, b in pairwise(found))
    (first, *_) = coordinator.usage("agent:ada", since=NOON + 60, until=NOON + HOUR)
    assert (first.start, first.usage.spent) == (NOON, Usdc("1.25"))
    by_agent = coordinator.usage("agent:ada", since=NOON, until=until, by="month")
    assert (by_agent[0].usage.held, by_agent[0].usage.spent) == (Usdc("4.00"), Usdc("10.00"))


@pytest.mark.parametrize(
    "terms",
    [
        {"by": "year"},
        {"scope": "task:t-1"},
        {"scope": "agent"},
        {"scope": "nobody:x"},
        {"until": NOON - 1},
        {"since": "yesterday"},
        {"until": NOON + 6 * 366 * DAY},
    ],
)
def test_usage_of_what_is_not_kept_is_refused(
    coordinator: Coordinator, terms: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        coordinator.usage(**{"since": NOON, "until": NOON + HOUR} | terms)


def test_a_service_level_follows_what_is_left_and_is_told_when_it_changes(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(
        {
            "agents": {"ada": {"daily_limit": "100"}},
            "service_levels": {
                "full": {"from": 50, "features": ["high_quality"]},
                "standard": {"from": 20},
                "minimal": {"from": 5},
                "emergency": {"from": 0},
            },
        }
    )
    ada, told = coordinator.agent("ada"), []

    def fails(*_: str) -> None:
        raise RuntimeError("a callback")

    ada.on_service_level(fails)
    ada.on_service_level(lambda before, after: told.append((before, after)))
    assert (ada.service_level, ada.features) == ("full", ("high_quality",))
    ada.record("50.00")
    assert (ada.service_level, told) == ("full", [])
    hold = ada.hold("40.00")
    assert told == [("full", "minimal")]
    hold.post("1.00")
    ada.record("45.00")
    ada.record("4.00")
    assert told[1:] == [("minimal", "standard"), ("standard", "emergency")]
    level = coordinator.service_level("ada")
    assert (level.name, level.remaining_percent, level.scope) == ("emergency", 0, "agent:ada")
    clock.now += DAY
    assert ada.service_level == "full"


def test_a_review_names_what_stands_out(opener: Opener) -> None:
    coordinator = opener(
        CREW
        | {
            "agents": {"ada": {"daily_limit": "70"}, "bert": {"daily_limit": "50"}},
            "reviews": {"pool_remaining_below": 40},
        }
    )
    coordinator.agent("ada").record("65.00")
    found = {(one.kind, one.scope, one.remaining_percent) for one in coordinator.review()}
    assert found == {
        ("nearly_depleted", "agent:ada", 7),
        ("under_used", "agent:bert", 100),
        ("pool_low", "pool:crew", 35),
    }
