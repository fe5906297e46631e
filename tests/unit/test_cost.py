"""A cost is judged like a purchase, without what only escrows have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind, Usage
from coordinator.domain.limits.rules import Opening, Rules
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.cost import CostDecision, CostRequest, cost_counters, judge_cost
from coordinator.domain.purchase.decision import Facts
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

NOW = 1_777_636_800
TODAY = NOW - NOW % 86400
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
DOCUMENT: dict[str, Any] = {
    "organisation": {"total_limit": "1000"},
    "agents": {
        "ada": {
            "per_purchase_limit": "40",
            "daily_limit": "100",
            "approval_threshold": "20",
            "providers": [],
        }
    },
    "providers": {"paper-api": {"address": ADDRESS, "daily_limit": "30"}},
    "categories": {"default": "other", "other": {}, "llm": {"total_limit": "50"}},
    "tasks": {"default": {"total_limit": "10", "categories": {"llm": {"total_limit": "1"}}}},
    "x402": {"per_request_limit": "0.50"},
}


def facts(
    document: Mapping[str, Any] = DOCUMENT,
    usage: Mapping[CounterKey, Usage] | None = None,
    paused: Iterable[tuple[str, str]] = (),
    opened: Opening | None = None,
) -> Facts:
    kept = usage or {}
    return Facts(
        rules=Rules(Policy.from_dict(dict(document))),
        now=NOW,
        minimum=Usdc("1"),
        usage=lambda keys: {key: kept[key] for key in keys if key in kept},
        paused=frozenset(paused),
        openings=lambda kind, name: opened if opened and opened.id == name else None,
    )


def judge(amount: str, *, known: Facts | None = None, **terms: Any) -> CostDecision:
    asked = CostRequest.of(agent=terms.pop("agent", "ada"), amount=amount, **terms)
    return judge_cost(asked, known or facts())


def codes(decision: CostDecision) -> list[str]:
    return [reason.code.value for reason in decision.reasons]


def test_neither_allowlist_nor_minimum_nor_balance_is_asked() -> None:
    assert judge("0.000001", provider="a-model").reasons == ()
    assert judge("20.00").reasons == ()


def test_a_threshold_allows_equal_and_refuses_above() -> None:
    decision = judge("20.000001")
    assert codes(decision) == ["approval_required"]
    assert decision.reasons[0].message.endswith("; a cost can't wait for approval")


def test_limits_are_told_before_the_threshold_and_all_of_them() -> None:
    assert codes(judge("60", category="llm", task="t", provider="paper-api")) == [
        "task_limit",
        "task_limit",
        "provider_limit",
        "per_purchase_limit",
        "category_limit",
    ]


def test_an_http_request_has_its_own_limit_only_where_it_says_so() -> None:
    assert codes(judge("0.51", x402=True)) == ["per_purchase_limit"]
    assert codes(judge("0.50", x402=True)) == []
    assert codes(judge("0.51")) == []
    without = {key: said for key, said in DOCUMENT.items() if key != "x402"}
    assert codes(judge("0.51", x402=True, known=facts(without))) == []


def test_an_address_of_the_allowlist_is_its_provider() -> None:
    for provider in (ADDRESS, ADDRESS.lower(), "paper-api"):
        decision = judge("10", provider=provider)
        assert decision.terms.provider == "paper-api"
        key = CounterKey(Scope(ScopeKind.PROVIDER, "paper-api"), Window.DAILY, TODAY)
        assert key in decision.counters
    assert judge("10", provider="a-model").terms.provider == "a-model"


@pytest.mark.parametrize(
    ("paused", "code"),
    [
        (("organisation", ""), "paused"),
        (("agent", "ada"), "agent_paused"),
        (("provider", "paper-api"), "provider_paused"),
    ],
)
def test_what_is_paused_is_refused(paused: tuple[str, str], code: str) -> None:
    known = facts(paused=[paused])
    assert codes(judge("1", provider=ADDRESS, known=known)) == [code]


def test_a_closed_task_and_one_of_another_agent_are_refused() -> None:
    closed = facts(opened=Opening("task", "t", "bert", closed=True))
    assert codes(judge("1", task="t", known=closed)) == ["task_closed", "task_not_allowed"]
    assert codes(judge("1", task="u", known=closed)) == []


def test_what_was_spent_already_is_counted_and_never_judged() -> None:
    asked = CostRequest.of(agent="eve", amount="5000", category="unheard-of", task="t")
    decision = cost_counters(asked, facts(paused=[("organisation", "")]))
    assert decision.reasons == ()
    scopes = {str(key.scope) for key in decision.counters}
    assert {"organisation", "agent:eve", "category:unheard-of", "task:t"} <= scopes


def test_it_counts_in_what_passes_a_day_without_people() -> None:
    document = DOCUMENT | {
        "agents": {"ada": DOCUMENT["agents"]["ada"] | {"auto_approve_daily_limit": "25"}}
    }
    key = CounterKey(Scope(ScopeKind.AUTO_APPROVED, "ada"), Window.DAILY, TODAY)
    used = facts(document, {key: Usage.of(Usdc("5"), Usdc("10"))})
    assert codes(judge("10", known=used)) == []
    assert codes(judge("10.01", known=used)) == ["approval_required"]
    assert key in judge("10", known=used).counters
    assert key in cost_counters(CostRequest.of(agent="ada", amount="1"), used).counters


@pytest.mark.parametrize(
    "terms",
    [
        {"agent": ""},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": 1},
        {"provider": "not a name"},
        {"category": "a/b"},
        {"task": "\u202e"},
        {"session": "x" * 201},
        {"purpose": "x" * 2001},
    ],
)
def test_a_malformed_cost_is_invalid(terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        CostRequest.of(**{"agent": "ada", "amount": "1"} | terms)


def test_a_remaining_amount_is_of_before_the_cost() -> None:
    (total,) = [s for s in judge("1").limits if s.limit.scope.kind is ScopeKind.ORGANISATION]
    assert (total.remaining, total.usage, total.broken) == (
        Usdc("1000"),
        Usage.of(ZERO, ZERO),
        False,
    )
