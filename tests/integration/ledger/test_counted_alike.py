"""Whatever a decision reads is counted by one rule, however its counter came to be needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from coordinator import Coordinator, Status, Usdc
from coordinator.domain.limits.limits import LimitState, ScopeKind, Usage
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.limits.recount import charge_missing, holds_with_terms
from coordinator.ledger.restore.audit_import import Rebirth
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import HOUR, PROVIDER, Clock, ask, policy, rows
from tests.integration.stores import Store, on_both

pytestmark = [on_both, pytest.mark.usefixtures("whole")]
OTHER_PROVIDER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
TERMS: dict[str, Any] = {"category": "data", "task": "t", "session": "s"}
LIMIT = {"daily_limit": "30"}
POOL = {"pools": {"p": {"agents": ["ada", "bert"], "daily_limit": "100"}}}


def apply(coordinator: Coordinator, wanted: Policy) -> None:
    wiring = coordinator.wiring
    assert wiring.activate_policy(
        wanted,
        author="olga",
        reason="a test",
        now=wiring.clock(),
    )


def move_to(coordinator: Coordinator, zone: str) -> None:
    """Put the policy in force in force again, with another time zone."""
    document = coordinator.wiring.policies.current().document()
    document["organisation"]["time_zone"] = zone
    apply(coordinator, Policy.from_dict(document))


def in_force(changes: dict[str, Any]) -> Callable[[Coordinator], None]:
    return lambda coordinator: apply(coordinator, policy(changes))


def share(coordinator: Coordinator) -> None:
    apply(coordinator, policy(POOL))
    coordinator.apply_sharing(coordinator.share("p", "fixed"), by="olga", reason="a test")


# How a daily limit of each kind of scope comes into force after the spending.
ADDED: dict[ScopeKind, tuple[Callable[[Coordinator], None], str]] = {
    ScopeKind.ORGANISATION: (in_force({"organisation": LIMIT}), "organisation"),
    ScopeKind.POOL: (in_force(POOL), "pool:p"),
    ScopeKind.AGENT: (in_force({"agents": {"ada": LIMIT}}), "agent:ada"),
    ScopeKind.CATEGORY: (in_force({"categories": {"data": LIMIT}}), "category:data"),
    ScopeKind.TASK: (in_force({"tasks": {"default": LIMIT}}), "task:t"),
    ScopeKind.SESSION: (in_force({"sessions": {"default": LIMIT}}), "session:s"),
    ScopeKind.PROVIDER: (in_force({"providers": {"paper-api": LIMIT}}), "provider:paper-api"),
    ScopeKind.AGENT_CATEGORY: (
        in_force({"agents": {"ada": {"categories": {"data": LIMIT}}}}),
        "agent_category:ada/data",
    ),
    ScopeKind.TASK_CATEGORY: (
        in_force({"tasks": {"t": {"categories": {"data": LIMIT}}}}),
        "task_category:t/data",
    ),
    ScopeKind.POOL_AGENT: (share, "pool_agent:p/ada"),
    ScopeKind.AUTO_APPROVED: (
        in_force({"agents": {"ada": {"auto_approve_daily_limit": "30"}}}),
        "auto_approved:ada",
    ),
}
# A limit of each request alone, which needs no counter.
UNCOUNTED = {ScopeKind.X402}
# Payments for HTTP requests: integration/x402/test_authorising.py recounts them.
UNCOUNTED |= {ScopeKind.X402_TASK, ScopeKind.X402_SESSION}


def state(coordinator: Coordinator, scope: str, window: str = "daily") -> LimitState:
    """The limit as it stands for ada's purchases of the paper-api."""
    states = coordinator.agent("ada").limits(provider="paper-api", **TERMS)
    (found,) = [s for s in states if (str(s.limit.scope), s.limit.window) == (scope, window)]
    return found


@pytest.mark.parametrize("kind", ADDED)
def test_a_daily_limit_that_comes_later_counts_the_day_in_any_zone(
    opener: Opener, clock: Clock, kind: ScopeKind
) -> None:
    add, scope = ADDED[kind]
    coordinator = opener()
    ada = coordinator.agent("ada")
    ask(ada, "7.00", **TERMS)
    ada.hold("5.00", provider="paper-api", **TERMS).post("4.00")
    clock.now += HOUR
    add(coordinator)
    used = state(coordinator, scope).usage
    assert (used.held, used.spent) == (Usdc("7"), Usdc("4"))

    for zone in ("Asia/Tokyo", "Europe/Berlin", "UTC"):
        move_to(coordinator, zone)
        used = state(coordinator, scope).usage
        assert (used.held, used.spent) == (Usdc("7"), Usdc("4"))


def test_a_recount_gives_every_hold_the_counters_that_its_decision_read(
    opener: Opener, database: str
) -> None:
    every = {f"{window}_limit": "30" for window in ("hourly", "daily", "weekly", "rolling_24h")}
    auto = {"auto_approve_daily_limit": "40", "categories": {"data": every}}
    coordinator = opener(
        {
            "organisation": every,
            "agents": {"ada": every | auto},
            "pools": {"p": {"agents": ["ada", "bert"], **every}},
            "categories": {"data": every},
            "providers": {"paper-api": every},
            "tasks": {"default": every | {"categories": {"data": every}}},
            "sessions": {"default": every},
        }
    )
    coordinator.apply_sharing(coordinator.share("p", "fixed"), by="olga", reason="a test")
    ada = coordinator.agent("ada")
    purchase = ask(ada, "1.00", **TERMS)
    assert purchase.status is Status.APPROVED
    ada.hold("1.00", provider="paper-api", **TERMS)
    ada.record("1.00", provider="paper-api", **TERMS)
    read = {s.limit for s in (*purchase.limits, state(coordinator, "auto_approved:ada"))}
    assert {limit.scope.kind for limit in read} == set(ADDED) == set(ScopeKind) - UNCOUNTED

    charged = charges(database)
    for of_one in charged.values():
        assert {(*limit.scope, limit.window.value) for limit in read} <= {k[:3] for k in of_one}
    with coordinator.wiring.database.write() as connection:
        connection.execute(text("UPDATE holds SET charges = '[]'"))
        connection.execute(text("UPDATE counters SET held = 0, spent = 0"))
        rules = coordinator.wiring.policies.rules(connection)
        charge_missing(connection, rules, coordinator.wiring.clock(), holds_with_terms())
    assert charges(database) == charged


def charges(database: str) -> dict[int, set[tuple[Any, ...]]]:
    """The counters that each hold charged."""
    found: dict[int, set[tuple[Any, ...]]] = {}
    query = 'SELECT hold_id, scope_kind, scope_id, "window", start FROM hold_charges'
    for hold_id, *key in rows(database, query):
        found.setdefault(hold_id, set()).add(tuple(key))
    return found


AUTO = {"agents": {"ada": {"auto_approve_daily_limit": "50"}}}


def test_a_change_of_zone_lets_nothing_more_pass_without_people(opener: Opener) -> None:
    coordinator = opener(AUTO)
    ada = coordinator.agent("ada")
    for _ in range(5):
        assert ask(ada, "10.00").status is Status.APPROVED
    for zone in ("Europe/Berlin", "Asia/Tokyo", "America/Los_Angeles", "UTC"):
        move_to(coordinator, zone)
        assert ask(ada, "1.00").status is Status.AWAITING_APPROVAL
        assert ada.hold("0.01").denied


def test_a_version_that_goes_and_comes_back_counts_what_passed_meanwhile(opener: Opener) -> None:
    coordinator = opener(AUTO)
    ada = coordinator.agent("ada")
    ask(ada, "20.00")
    apply(coordinator, policy())
    ask(ada, "20.00")
    apply(coordinator, policy(AUTO))
    assert state(coordinator, "auto_approved:ada").remaining == Usdc("10")


def test_what_people_were_asked_about_does_not_count_in_what_passes_without(
    opener: Opener,
) -> None:
    coordinator = opener({"agents": {"ada": {"approval_threshold": "15"}}})
    ada = coordinator.agent("ada")
    first, _ = ask(ada, "20.00"), ask(ada, "20.00")
    assert coordinator.approve(str(first.approval_id), approver="alice").done
    ask(ada, "10.00")
    apply(coordinator, policy(AUTO))
    assert state(coordinator, "auto_approved:ada").usage.held == Usdc("10")


def test_a_share_s_day_in_another_zone_counts_though_no_policy_has_a_daily_limit_any_more(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener(POOL)
    share_out = coordinator.share("p", "fixed")
    coordinator.apply_sharing(share_out, by="olga", reason="a test")
    ask(coordinator.agent("ada"), "50.00", **TERMS)
    clock.now += 2 * HOUR
    pool = {"pools": {"p": {"agents": ["ada", "bert"], "total_limit": "100"}}}
    apply(coordinator, policy(pool | {"organisation": {"time_zone": "Asia/Tokyo"}}))
    assert state(coordinator, "pool_agent:p/ada").usage.held == Usdc("50")


@pytest.mark.parametrize("by_agent", [False, True])
def test_an_opened_session_s_week_in_another_zone_counts_though_the_policy_has_none(
    opener: Opener, clock: Clock, by_agent: bool
) -> None:
    coordinator = opener()
    ada = coordinator.agent("ada")
    opens = ada.open_session if by_agent else coordinator.open_session
    opens("s", limits={"weekly_limit": "10"})
    ask(ada, "10.00", **TERMS)
    clock.now += 2 * HOUR
    move_to(coordinator, "Asia/Tokyo")
    assert state(coordinator, "session:s", "weekly").usage.held == Usdc("10")
    assert ask(ada, "1.00", **TERMS).denied


def test_an_address_under_another_name_has_been_paid_what_it_was_paid(
    opener: Opener, clock: Clock
) -> None:
    coordinator = opener()
    ada = coordinator.agent("ada")
    clock.now -= 60 * 24 * HOUR
    ask(ada, "7.00", **TERMS)
    clock.now += 60 * 24 * HOUR
    ask(ada, "3.00", **TERMS)
    renamed = {
        "papers": {"address": PROVIDER.lower(), "total_limit": "30", "daily_limit": "30"},
        "paper-api": {"address": OTHER_PROVIDER},
    }
    apply(coordinator, policy({"providers": renamed}))
    states = ada.limits(provider="papers")
    used = {s.limit.window: s.usage for s in states if str(s.limit.scope) == "provider:papers"}
    assert used == {"daily": Usage.of(Usdc("3")), "total": Usage.of(Usdc("10"))}


def test_what_passed_without_people_counts_after_the_database_was_lost(
    opener: Opener, store: Store, clock: Clock
) -> None:
    old = opener(AUTO)
    ask(old.agent("ada"), "20.00")
    old.agent("ada").record("5.00")
    ask(old.agent("ada"), "60.00")
    new = opener(AUTO, database=store.url("fresh"))
    export = new.wiring.audit.read_export(list(old.wiring.audit.export()))
    at = Rebirth(start_block=0, final_number=0, nonces={}, now=clock())
    new.wiring.imports.carry_out(export, at)
    assert state(new, "auto_approved:ada").usage == Usage.of(Usdc("20"), Usdc("5"))


def test_a_replay_counts_costs_in_what_passes_without_people(opener: Opener, clock: Clock) -> None:
    coordinator = opener(AUTO)
    ada = coordinator.agent("ada")
    ada.record("40.00")
    clock.now += HOUR
    assert ask(ada, "20.00").status is Status.AWAITING_APPROVAL
    clock.now += 1
    found = coordinator.replay(policy(AUTO), days=1)
    assert found.counts["same"] == found.judged == 1
