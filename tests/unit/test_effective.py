"""The effective limits of an agent: what holds for it, and where each comes from."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.limits.effective import effective, effective_of_agent
from coordinator.domain.limits.limits import Scope
from coordinator.domain.limits.rules import Grant, Opening, Overlays, Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from tests.limits_model import Asked, Model
from tests.limits_stories import ASKED, document

POLICY = parse_policy("""[organisation]
total_limit = "1000"
[roles.r]
daily_limit = "10"
rolling_24h_limit = "9"
auto_approve_daily_limit = "8"
categories = { data = { daily_limit = "7" } }
[agents.ada]
role = "r"
per_purchase_limit = "5"
categories = { other = { daily_limit = "6" } }
providers = ["p"]
[pools.x]
agents = ["ada"]
daily_limit = "100"
[pools.y]
agents = []
daily_limit = "1"
[categories.other]
[categories.data]
total_limit = "50"
[providers.p]
address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
weekly_limit = "40"
[providers.q]
address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
weekly_limit = "41"
[tasks.default]
total_limit = "30"
categories = { data = { total_limit = "3" } }
[tasks.t]
total_limit = "31"
[sessions.default]
total_limit = "20"
[x402]
per_request_limit = "1"
""")
ADA = Scope.of("agent:ada")


def found(rules: Rules, **names: str) -> dict[str, tuple[str, str]]:
    """Amount and source by scope and window."""
    limits = effective_of_agent(rules, "ada", 50, opened, **names)
    return {f"{e.limit.scope} {e.limit.window}": (str(e.limit.amount), e.source) for e in limits}


def opened(kind: str, name: str) -> Opening | None:
    if (kind, name) != ("session", "mine"):
        return None
    return Opening(kind, name, "ada", {Window.TOTAL: Usdc("2")})


def test_each_limit_tells_the_key_that_it_comes_from() -> None:
    assert found(Rules(POLICY)) == {
        "organisation total": ("1000.00", "organisation.total_limit"),
        "agent:ada per_purchase": ("5.00", "agents.ada.per_purchase_limit"),
        "agent:ada daily": ("10.00", "roles.r.daily_limit"),
        "agent:ada rolling_24h": ("9.00", "roles.r.rolling_24h_limit"),
        "auto_approved:ada daily": ("8.00", "roles.r.auto_approve_daily_limit"),
        "pool:x daily": ("100.00", "pools.x.daily_limit"),
        "category:data total": ("50.00", "categories.data.total_limit"),
        "agent_category:ada/data daily": ("7.00", "roles.r.categories.data.daily_limit"),
        "agent_category:ada/other daily": ("6.00", "agents.ada.categories.other.daily_limit"),
        "provider:p weekly": ("40.00", "providers.p.weekly_limit"),
        "task:default total": ("30.00", "tasks.default.total_limit"),
        "task_category:default/data total": (
            "3.00",
            "tasks.default.categories.data.total_limit",
        ),
        "session:default total": ("20.00", "sessions.default.total_limit"),
        "x402 per_purchase": ("1.00", "x402.per_request_limit"),
    }


def test_a_task_or_session_that_is_named_tells_its_own_limits() -> None:
    limits = found(Rules(POLICY), task="t", session="mine")
    assert limits["task:t total"] == ("31.00", "tasks.t.total_limit")
    assert limits["session:mine total"] == ("2.00", "session mine as opened")


def test_grants_and_allocations_are_told_while_they_hold() -> None:
    pair = Scope.of("pool_agent:x/ada")
    grants = [
        Grant("g1", ADA, Window.DAILY, Usdc("3"), 0, 51),
        Grant("g2", ADA, Window.DAILY, Usdc("4"), 0, 50),
    ]
    rules = Rules(POLICY, Overlays(grants, {pair: {Window.DAILY: Usdc("25")}}))
    limits = {e.limit.scope: e for e in effective(rules, Terms("ada"), 50) if "daily" in e.source}
    assert str(limits[ADA].limit.amount) == "13.00"
    assert [one.id for one in limits[ADA].grants] == ["g1"]
    assert found(rules)["pool_agent:x/ada daily"] == ("25.00", "allocation of pool x")


@given(st.integers(0, 2**32), ASKED)
def test_every_source_is_a_key_of_the_policy_with_that_amount(seed: int, asked: Asked) -> None:
    plain = document(Random(seed), "UTC")
    limits = effective(Rules(Policy.from_dict(plain)), Terms(*asked), 0)
    for one in limits:
        table = plain
        for key in one.source.split("."):
            table = table[key]
        assert Usdc(table) == one.limit.amount  # type: ignore[arg-type]
    checks = Model(plain).checks(asked, 0, 0)
    told = {(str(e.limit.scope), e.limit.window.value, e.limit.amount.base_units) for e in limits}
    assert told == {(check.scope, check.window, check.limit) for check in checks}
