"""A lost database: the audit export gives budgets back, to the base unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator import Coordinator, IdempotencyConflict
from coordinator.domain.limits.rules import Terms
from coordinator.ledger.restore.audit_import import Rebirth
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    HOUR,
    Clock,
    ask,
    assert_books_agree,
    assert_log_is_whole,
    counters,
)
from tests.integration.stores import Store, on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
BUDGETS: dict[str, Any] = {
    "agents": {
        "ada": {"daily_limit": "100", "priority": 8, "auto_approve_daily_limit": "60"},
        "bert": {"daily_limit": "100", "priority": 4},
    },
    "pools": {"crew": {"daily_limit": "90", "agents": ["ada", "bert"]}},
    "tasks": {"default": {"total_limit": "50"}},
    "sessions": {"default": {"total_limit": "50"}},
    "increases": {"maximum": "100", "auto_approve_from_priority": 7},
}


def lived(coordinator: Coordinator, clock: Clock) -> None:
    """Everything that a budget can hold, in every state."""
    ada, bert = coordinator.agent("ada"), coordinator.agent("bert")
    coordinator.apply_sharing(coordinator.share("crew", "fixed"), by="olga", reason="a test")
    coordinator.apply_sharing(coordinator.share("crew", "by_priority"), by="olga", reason="again")
    coordinator.open_session("s-1", "ada", {"total_limit": "40", "daily_limit": "30"})
    task = coordinator.open_task("t-1", None, {"categories": {"data": {"total_limit": "9"}}})
    ada.hold("2.00", session="s-1", task="t-1", category="data")
    ada.hold("3.00", session="s-1", provider="a-model").post("4.00")
    ada.hold("1.00").void()
    ada.hold("500.00")
    task.close()
    clock.now += HOUR
    bert.record("5.00", session="s-2")
    ada.request_increase("20.00", reason="more", lasts="5h")
    ada.request_increase("7.00", reason="more", lasts="5h")
    bert.request_increase("7.00", reason="waits")
    asked = ada.request_emergency("10.00", pool="crew", reason="a deadline")
    coordinator.approve_increase(asked.id, approver="alice")
    grant = next(o for o in coordinator.overlays() if o.kind == "grant" and str(o.amount) == "7.00")
    coordinator.withdraw_overlay(grant.id, by="olga", reason="too much")
    coordinator.disable_agent("bert", by="olga", reason="misbehaves")
    coordinator.disable_agent("cora", by="olga", reason="misbehaves")
    coordinator.enable_agent("cora", by="olga", reason="repaired")


def limits(coordinator: Coordinator) -> list[dict[str, Any]]:
    w = coordinator.wiring
    terms = [Terms(agent) for agent in ("ada", "bert")]
    terms += [Terms(session="s-1"), Terms(category="data", task="t-1")]
    return [s.as_dict() for t in terms for s in w.limits.states(t, now=w.clock())]


def imported(old: Coordinator, opener: Opener, store: Store, clock: Clock) -> tuple[Any, str]:
    """A fresh database with the old one's export; the coordinator and its address."""
    url = store.url("fresh")
    new = opener(BUDGETS, database=url)
    export = new.wiring.audit.read_export(list(old.wiring.audit.export()))
    at = Rebirth(start_block=0, final_number=0, nonces={}, now=clock())
    new.wiring.imports.carry_out(export, at)
    return new, url


def test_costs_sessions_and_what_lay_over_the_policy_come_back(
    opener: Opener, database: str, store: Store, clock: Clock
) -> None:
    old = opener(BUDGETS)
    lived(old, clock)

    new, url = imported(old, opener, store, clock)

    assert limits(new) == limits(old)
    assert counters(url) == counters(database)
    laid = [
        [replace(one, id="") if one.kind == "disabled" else one for one in coordinator.overlays()]
        for coordinator in (new, old)
    ]
    assert laid[0] == laid[1]
    assert (new.sessions(), new.tasks()) == (old.sessions(), old.tasks())
    kept = [
        [cost.as_dict() for cost in coordinator.wiring.costs.list()] for coordinator in (new, old)
    ]
    assert kept[0] == kept[1]
    assert [a["enabled"] for a in new.agents()] == [a["enabled"] for a in old.agents()]
    assert_books_agree(url)
    assert_log_is_whole(url)


def test_a_restored_hold_is_posted_and_a_restored_grant_withdrawn(
    opener: Opener, store: Store, clock: Clock
) -> None:
    old = opener(BUDGETS)
    hold = old.agent("ada").hold("2.00")
    old.agent("ada").request_increase("20.00", reason="more")
    new, url = imported(old, opener, store, clock)
    assert new.unpause("checked", by="alice")
    assert new.wiring.budgets.post(hold.id, "1.00").status.value == "posted"
    (grant,) = new.overlays()
    new.withdraw_overlay(grant.id, by="olga", reason="over")
    assert ask(new.agent("ada"), "50.00").status.value == "approved"
    assert new.agent("ada").hold("49.00").ok is False
    assert_books_agree(url)


def test_a_grant_that_was_restored_is_not_granted_again_by_its_key(
    opener: Opener, store: Store, clock: Clock
) -> None:
    asked: dict[str, Any] = {"reason": "more", "lasts": "5h", "idempotency_key": "more-1"}
    old = opener(BUDGETS)
    granted = old.agent("ada").request_increase("20.00", **asked)
    assert granted.granted
    new, _ = imported(old, opener, store, clock)
    assert new.unpause("checked", by="alice")
    with pytest.raises(IdempotencyConflict, match="rebuilt"):
        new.agent("ada").request_increase("20.00", **asked)
    assert [str(o.amount) for o in new.overlays() if o.kind == "grant"] == ["20.00"]


def test_a_cost_key_that_was_restored_is_bound_still(
    opener: Opener, store: Store, clock: Clock
) -> None:
    old = opener(BUDGETS)
    held = old.agent("ada").hold("2.00", idempotency_key="call-1")
    noted = old.agent("ada").record("1.00", idempotency_key="fee-1")
    new, _ = imported(old, opener, store, clock)
    assert new.unpause("checked", by="alice")
    assert new.agent("ada").hold("2.00", idempotency_key="call-1").id == held.id
    assert new.agent("ada").record("1.00", idempotency_key="fee-1").id == noted.id
    assert len(new.wiring.costs.list()) == 2
