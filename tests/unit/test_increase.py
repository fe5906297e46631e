"""Who may ask for more of what, what passes without people, and who may decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.increase import (
    EMERGENCY,
    INCREASE,
    Increase,
    IncreaseStatus,
    check_requested,
    judged,
    may_decide,
    raised,
)
from coordinator.domain.limits.limits import Scope
from coordinator.domain.limits.rules import Grant, Opening, Overlays, Rules
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

NOW = 1_777_636_800
DOCUMENT: dict[str, Any] = {
    "organisation": {"total_limit": "1000"},
    "agents": {
        "ada": {
            "per_purchase_limit": "40",
            "daily_limit": "100",
            "auto_approve_daily_limit": "60",
            "priority": 8,
            "categories": {"llm": {"daily_limit": "5"}},
        },
        "bert": {"per_purchase_limit": "40", "daily_limit": "100"},
    },
    "pools": {"crew": {"daily_limit": "90", "agents": ["ada"]}},
    "categories": {"llm": {"total_limit": "50"}},
    "tasks": {"default": {"total_limit": "10", "categories": {"llm": {"total_limit": "1"}}}},
    "sessions": {"default": {"total_limit": "10"}},
    "approvals": {
        "approvers": {"alice": {}, "bert": {"agent": True, "up_to": "20"}, "carl": {"up_to": "30"}}
    },
    "increases": {"maximum": "100", "auto_approve_from_priority": 8},
}
SHARE = Scope.of("pool_agent:crew/ada")


def rules(*grants: Grant, disabled: str = "", **changes: Any) -> Rules:
    allocated = {SHARE: {Window.DAILY: Usdc("30")}}
    overlays = Overlays(grants, allocated, frozenset({disabled}))
    return Rules(Policy.from_dict(DOCUMENT | changes), overlays)


def check(scope: str, window: str, *, agent: str = "ada", kind: str = INCREASE) -> None:
    def openings(kind: str, name: str) -> Opening | None:
        return Opening(kind, name, "bert") if name == "berts" else None

    check_requested(kind, agent, Scope.of(scope), Window(window), rules(), openings, NOW)


def status(
    amount: str,
    *,
    scope: str = "agent:ada",
    kind: str = INCREASE,
    running: str = "0",
    given: Rules | None = None,
) -> tuple[str, str | None]:
    known = given or rules()
    found, reason = judged("ada", kind, Scope.of(scope), Usdc(amount), Usdc(running), known)
    return found.value, reason.code.value if reason else None


@pytest.mark.parametrize(
    ("scope", "window"),
    [
        ("agent:ada", "daily"),
        ("agent:ada", "per_purchase"),
        ("auto_approved:ada", "daily"),
        ("agent_category:ada/llm", "daily"),
        ("pool:crew", "daily"),
        ("pool_agent:crew/ada", "daily"),
        ("task:t/1", "total"),
        ("task_category:t/1/llm", "total"),
        ("session:s", "total"),
    ],
)
def test_an_agent_asks_for_more_of_what_limits_it(scope: str, window: str) -> None:
    check(scope, window)


@pytest.mark.parametrize(
    ("scope", "window"),
    [
        ("agent:bert", "daily"),
        ("agent:ada", "weekly"),
        ("organisation", "total"),
        ("category:llm", "total"),
        ("agent_category:bert/llm", "daily"),
        ("agent_category:ada/other", "daily"),
        ("session:s", "daily"),
        ("session:berts", "total"),
        ("task_category:berts/llm", "total"),
        ("x402:", "per_purchase"),
    ],
)
def test_nothing_of_others_and_no_limit_that_is_not_there(scope: str, window: str) -> None:
    with pytest.raises(InvalidRequest):
        check(scope, window)
    if scope == "session:berts":
        check(scope, window, agent="bert")


def test_an_emergency_is_about_a_share_of_a_pool() -> None:
    check("pool_agent:crew/ada", "daily", kind=EMERGENCY)
    with pytest.raises(InvalidRequest, match="shared among its agents"):
        check("pool:crew", "daily", kind=EMERGENCY)


def test_the_maximum_holds_over_what_runs_and_allows_equal() -> None:
    assert status("60", running="40")[0] == "granted"
    assert status("60.000001", running="40") == ("rejected", "increase_limit")
    assert status("500", given=rules(increases=None)) == ("waiting", None)


def test_priority_passes_only_for_an_agents_own_and_never_an_emergency() -> None:
    for own in ("agent:ada", "agent_category:ada/llm", "auto_approved:ada"):
        assert status("1", scope=own) == ("granted", None)
    for shared in (
        "pool:crew",
        "pool_agent:crew/ada",
        "session:s",
        "task:t",
        "task_category:t/llm",
    ):
        assert status("1", scope=shared) == ("waiting", None)
    assert status("1", scope=str(SHARE), kind=EMERGENCY) == ("waiting", None)
    stricter = {"maximum": "100", "auto_approve_from_priority": 9}
    assert status("1", given=rules(increases=stricter)) == ("waiting", None)
    assert status("1", given=rules(increases={"maximum": "100"})) == ("waiting", None)


def test_who_is_disabled_is_refused() -> None:
    assert status("1", given=rules(disabled="ada")) == ("rejected", "agent_disabled")
    found, reason = judged("eve", INCREASE, Scope.of("agent:eve"), Usdc("1"), ZERO, rules())
    assert (found, reason and reason.code.value) == (
        IncreaseStatus.REJECTED,
        "agent_not_registered",
    )


ASKED = Increase(
    id="inc_1",
    kind=INCREASE,
    agent="ada",
    scope=Scope.of("agent:ada"),
    window=Window.DAILY,
    amount=Usdc("20"),
    lasts_seconds=3600,
    why="approved by alice",
    status=IncreaseStatus.WAITING,
    required=1,
    created_at=NOW,
    expires_at=NOW + 3600,
)


@pytest.mark.parametrize(
    ("approver", "change", "code"),
    [
        ("alice", {}, None),
        ("bert", {}, None),
        ("bert", {"amount": Usdc("20.000001")}, "not_an_approver"),
        ("bert", {"agent": "bert"}, "not_an_approver"),
        ("alice", {"amount": Usdc("1000000")}, None),
        ("ada", {}, "not_an_approver"),
        ("eve", {}, "not_an_approver"),
        ("alice", {"status": IncreaseStatus.EXPIRED}, "approval_expired"),
        ("alice", {"status": IncreaseStatus.GRANTED}, "approval_not_found"),
        ("alice", {"status": IncreaseStatus.REJECTED}, "approval_not_found"),
    ],
)
def test_who_may_decide(approver: str, change: dict[str, Any], code: str | None) -> None:
    reason = may_decide(rules().policy, replace(ASKED, **change), approver)
    assert (reason.code.value if reason else None) == code


def test_what_is_granted_is_summed_while_it_runs() -> None:
    scope, day = Scope.of("agent:ada"), Window.DAILY

    def grant(amount: int, start: int, end: int | None, window: Window = day) -> Grant:
        return Grant("ovl", scope, window, Usdc.from_base_units(amount), start, end)

    known = rules(
        grant(5, NOW - 10, NOW + 1),
        grant(7, NOW - 10, None),
        grant(100, NOW - 10, NOW),
        grant(100, NOW + 1, None),
        grant(100, NOW - 10, None, Window.TOTAL),
    )
    assert raised(known, scope, day, NOW) == Usdc.from_base_units(12)
    assert raised(known, scope, day, NOW + 1) == Usdc.from_base_units(107)
    assert raised(rules(grant(-5, 0, None)), scope, day, NOW) == ZERO


def test_as_json_it_tells_amount_scope_and_end() -> None:
    told = replace(ASKED, ends_at=NOW).as_dict()
    assert (told["amount"], told["scope"], told["window"]) == ("20.00", "agent:ada", "daily")
    assert told["ends_at"] == "2026-05-01T12:00:00Z"
