"""A policy written out reads back as the same policy; screens see no secret of it."""

from __future__ import annotations

import tomllib
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.limits.limits import Scope
from coordinator.domain.limits.merge import merged
from coordinator.domain.limits.rules import Grant, Overlays
from coordinator.domain.policy.export import comment, document_to_toml, to_toml
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from tests.limits_model import CHANGES
from tests.limits_stories import document

WHOLE = """[organisation]
total_limit = "1000"
[roles.r]
daily_limit = "10"
[roles.empty]
[agents."a.b"]
role = "r"
per_purchase_limit = "5"
providers = []
categories = { other = {}, data = { rolling_36h_limit = "3" } }
[pools.p]
agents = ["a.b"]
daily_limit = "100"
minimums = { "a.b" = "50" }
rebalance = { every = "24h" }
[categories.other]
[categories.data]
[categories.minimums]
[tasks]
required = true
[tasks.default]
[tasks."my \\"task\\" \\u007f é"]
categories = { data = { total_limit = "1" } }
[sessions.s]
[x402]
per_request_limit = "1"
[[approvals.tiers]]
above = "100"
required = 2
[[approvals.tiers]]
above = "200"
required = 2
[approvals.approvers.alice]
[approvals.approvers.bob]
[approvals.approvers.senior-agent]
agent = true
up_to = "200"
[service_levels]
full = { from = 50, features = ["high_quality"] }
standard = { from = 20 }
minimal = { from = 5 }
emergency = { from = 0 }
[increases]
maximum = "100"
[reviews]
[alerts]
notify = ["env:SLACK_URL", "slack://…", "https://hooks.example.com"]
"""


def test_a_policy_of_every_table_reads_back_as_it_is() -> None:
    policy = parse_policy(WHOLE)
    text = to_toml(policy)
    assert parse_policy(text) == policy
    assert parse_policy(text).hash == policy.hash
    # A named table without a key says that there is such a thing.
    assert "[categories.other]\n" in text
    assert "[roles.empty]\n" in text
    assert "minimums]" not in text.replace("[categories.minimums]", "").replace("p.minimums]", "")


@given(st.integers(0, 2**32))
def test_any_policy_reads_back_as_it_is(seed: int) -> None:
    chance = Random(seed)
    policy = Policy.from_dict(document(chance, chance.choice(sorted(CHANGES))))
    assert parse_policy(to_toml(policy)) == policy


VALUES = st.text() | st.integers(0, 99) | st.booleans() | st.lists(st.text())


@given(st.dictionaries(st.text(), VALUES, min_size=1))
def test_any_text_reads_back_as_it_is(table: dict[str, object]) -> None:
    assert tomllib.loads(document_to_toml({"x": table})) == {"x": table}


@given(st.text())
def test_a_comment_stays_one_line_whatever_is_in_it(text: str) -> None:
    assert tomllib.loads(comment(text)) == {}
    assert comment(text).count("\n") == 1


def grant(scope: str, window: str, amount: str, *, ends_at: int | None = None) -> Grant:
    return Grant(f"{scope} {window}", Scope.of(scope), Window(window), Usdc(amount), 0, ends_at)


def test_the_merged_policy_has_disabled_agents_and_grants_without_an_end() -> None:
    policy = parse_policy(WHOLE)
    written = [
        grant("organisation", "total", "1"),
        grant("agent:a.b", "daily", "2"),
        grant("agent:a.b", "daily", "3"),
        grant("pool:p", "daily", "4"),
    ]
    left = [
        grant("agent:a.b", "daily", "7", ends_at=100),
        grant("agent_category:a.b/data", "rolling_36h", "1"),
        grant("category:other", "daily", "1"),
        # It would stand above the daily limit.
        grant("agent:a.b", "per_purchase", "90"),
    ]
    whole, ids = merged(policy, Overlays([*written, *left], disabled=frozenset({"a.b"})), now=50)
    assert ids == {one.id for one in written}
    assert whole.organisation.total_limit == Usdc("1001")
    assert whole.agents["a.b"].daily_limit == Usdc("15")
    assert whole.roles["r"].daily_limit == Usdc("10")
    assert whole.pools["p"].daily_limit == Usdc("104")
    assert not whole.agents["a.b"].enabled
    assert parse_policy(to_toml(whole)) == whole
