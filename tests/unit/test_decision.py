"""A decision judges the whole policy at once, and fails closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind, Usage
from coordinator.domain.limits.rules import Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.decision import Decision, Facts, Funds, decide
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

NOW = 1_777_636_800
TODAY = NOW - NOW % 86400
PAPER_API = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER_API = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
STRANGER = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
ORGANISATION = Scope(ScopeKind.ORGANISATION)
AGENT = Scope(ScopeKind.AGENT, "research-agent")
API = Scope(ScopeKind.CATEGORY, "api")


def document() -> dict[str, Any]:
    return {
        "organisation": {"total_limit": "1000.00", "daily_limit": "500.00"},
        "agents": {
            "research-agent": {
                "per_purchase_limit": "100",
                "daily_limit": "300",
                "total_limit": "800",
                "approval_threshold": "50",
                "providers": ["paper-api"],
            },
        },
        "pools": {"readers": {"agents": ["research-agent"]}, "others": {"agents": []}},
        "providers": {
            "paper-api": {"address": PAPER_API, "service": "papers"},
            "other-api": {"address": OTHER_API},
        },
        "categories": {"default": "other", "api": {"total_limit": "200"}, "other": {}},
        "approvals": {"approvers": ["alice", "bob"]},
    }


def agent_with(**values: Any) -> Policy:
    changed = document()
    changed["agents"]["research-agent"] = {
        key: value
        for key, value in {**changed["agents"]["research-agent"], **values}.items()
        if value is not None
    }
    return Policy.from_dict(changed)


def judge(
    *,
    amount: str = "25",
    agent: str = "research-agent",
    provider: str = "paper-api",
    category: str | None = "api",
    service: str | None = None,
    policy: Policy | None = None,
    usage: Mapping[CounterKey, Usage] | None = None,
    paused: Iterable[tuple[str, str]] = (),
    funds: Funds | None = None,
    minimum: str = "1",
) -> Decision:
    request = Request.of(
        agent=agent,
        provider=provider,
        amount=amount,
        purpose="papers",
        category=category,
        service=service,
    )
    kept = usage or {}
    facts = Facts(
        rules=Rules(policy or Policy.from_dict(document())),
        now=NOW,
        minimum=Usdc(minimum),
        usage=lambda keys: {key: kept[key] for key in keys if key in kept},
        paused=frozenset(paused),
        funds=funds,
    )
    return decide(request, facts)


def codes(decision: Decision) -> list[ReasonCode]:
    return [reason.code for reason in decision.reasons]


def daily(scope: Scope, held: str = "0", spent: str = "0") -> dict[CounterKey, Usage]:
    return {CounterKey(scope, Window.DAILY, TODAY): Usage.of(Usdc(held), Usdc(spent))}


def total(scope: Scope, held: str = "0", spent: str = "0") -> dict[CounterKey, Usage]:
    return {CounterKey(scope, Window.TOTAL, 0): Usage.of(Usdc(held), Usdc(spent))}


def test_a_purchase_within_every_limit_is_approved_without_a_reason() -> None:
    decision = judge()
    assert decision.outcome is Status.APPROVED
    assert decision.reasons == ()
    assert decision.reason is None


def disabled() -> Policy:
    return agent_with(enabled=False)


def without_default_category() -> Policy:
    changed = document()
    del changed["categories"]["default"]
    return Policy.from_dict(changed)


POOR = Funds(usdc_free=Usdc("24.999999"), gas_is_enough=True)
NO_GAS = Funds(usdc_free=Usdc("25"), gas_is_enough=False)
DENIALS: dict[ReasonCode, list[dict[str, Any]]] = {
    ReasonCode.PAUSED: [{"paused": [("organisation", "")]}],
    ReasonCode.AGENT_NOT_REGISTERED: [{"agent": "nobody", "provider": "other-api"}],
    ReasonCode.AGENT_DISABLED: [{"policy": disabled()}],
    ReasonCode.AGENT_PAUSED: [{"paused": [("agent", "research-agent")]}],
    ReasonCode.POOL_PAUSED: [{"paused": [("pool", "readers")]}],
    ReasonCode.PROVIDER_PAUSED: [
        {"paused": [("provider", "paper-api")]},
        {"paused": [("provider", "paper-api")], "provider": PAPER_API},
    ],
    ReasonCode.PROVIDER_NOT_ALLOWED: [
        {"provider": STRANGER},
        {"provider": "no-such-api"},
        {"provider": "other-api"},
        {"provider": OTHER_API},
    ],
    ReasonCode.BELOW_MINIMUM: [{"amount": "0.999999"}],
    ReasonCode.CATEGORY_REQUIRED: [{"category": None, "policy": without_default_category()}],
    ReasonCode.PER_PURCHASE_LIMIT: [{"amount": "100.000001"}],
    ReasonCode.DAILY_LIMIT: [
        {"usage": daily(AGENT, held="275.000001")},
        {"usage": daily(AGENT, spent="275.000001")},
    ],
    ReasonCode.TOTAL_LIMIT: [{"usage": total(AGENT, held="400", spent="375.000001")}],
    ReasonCode.ORGANISATION_LIMIT: [
        {"usage": daily(ORGANISATION, held="475.000001")},
        {"usage": total(ORGANISATION, spent="975.000001")},
    ],
    ReasonCode.CATEGORY_LIMIT: [{"usage": total(API, held="175.000001")}],
    ReasonCode.INSUFFICIENT_USDC: [{"funds": POOR}],
    ReasonCode.INSUFFICIENT_GAS: [{"funds": NO_GAS}],
}


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        pytest.param(code, asked, id=f"{code}-{number}")
        for code, cases in DENIALS.items()
        for number, asked in enumerate(cases, start=1)
    ],
)
def test_each_denial_has_its_own_code_and_no_other(code: ReasonCode, asked: dict[str, Any]) -> None:
    decision = judge(**asked)
    assert decision.outcome is Status.DENIED
    assert codes(decision) == [code]
    assert decision.reason is not None
    assert len(decision.reason.message) > 10


def test_a_category_that_the_policy_does_not_list_is_not_allowed_and_has_no_limit() -> None:
    decision = judge(category="travel")
    assert decision.outcome is Status.DENIED
    assert codes(decision) == [ReasonCode.CATEGORY_NOT_ALLOWED, ReasonCode.NO_LIMIT_CONFIGURED]
    assert all("travel" in reason.message for reason in decision.reasons)


@pytest.mark.parametrize(
    "asked",
    [
        {"amount": "100", "policy": agent_with(approval_threshold="unlimited")},
        {"usage": daily(AGENT, held="275")},
        {"usage": total(AGENT, held="400", spent="375")},
        {"usage": daily(ORGANISATION, held="475")},
        {"usage": total(ORGANISATION, spent="975")},
        {"usage": total(API, held="175")},
        {"amount": "1"},
        {"funds": Funds(usdc_free=Usdc("25"), gas_is_enough=True)},
        {"funds": None},
        {"paused": [("agent", "other-agent"), ("provider", "other-api"), ("pool", "others")]},
    ],
    ids=[
        "purchase limit",
        "agent's day",
        "agent's total",
        "organisation's day",
        "organisation's total",
        "category's total",
        "minimum",
        "funds",
        "unknown funds",
        "others' pauses",
    ],
)
def test_equal_to_a_limit_or_to_the_funds_is_allowed(asked: dict[str, Any]) -> None:
    assert judge(**asked).outcome is Status.APPROVED


def test_the_threshold_lets_equal_pass_and_asks_a_human_above_it() -> None:
    assert judge(amount="50").outcome is Status.APPROVED
    above = judge(amount="50.000001")
    assert above.outcome is Status.AWAITING_APPROVAL
    assert codes(above) == [ReasonCode.APPROVAL_REQUIRED]


def test_without_a_threshold_every_purchase_waits() -> None:
    decision = judge(amount="1", policy=agent_with(approval_threshold=None))
    assert decision.outcome is Status.AWAITING_APPROVAL


def test_a_threshold_of_zero_makes_every_purchase_wait() -> None:
    decision = judge(amount="1", policy=agent_with(approval_threshold="0"))
    assert decision.outcome is Status.AWAITING_APPROVAL


def test_an_unlimited_threshold_never_asks() -> None:
    policy = agent_with(approval_threshold="unlimited")
    assert judge(amount="100", policy=policy).outcome is Status.APPROVED


def test_a_human_is_never_asked_for_what_a_limit_refuses() -> None:
    decision = judge(amount="100.000001")
    assert decision.outcome is Status.DENIED
    assert ReasonCode.APPROVAL_REQUIRED not in codes(decision)


def test_a_purchase_that_would_wait_is_denied_when_the_funds_are_short() -> None:
    decision = judge(amount="60", funds=Funds(usdc_free=Usdc("59"), gas_is_enough=False))
    assert decision.outcome is Status.DENIED
    assert codes(decision) == [ReasonCode.INSUFFICIENT_USDC, ReasonCode.INSUFFICIENT_GAS]


def test_without_providers_every_purchase_is_refused() -> None:
    changed = document()
    del changed["providers"], changed["agents"]["research-agent"]["providers"]
    decision = judge(provider=PAPER_API, policy=Policy.from_dict(changed))
    assert codes(decision) == [ReasonCode.PROVIDER_NOT_ALLOWED]


def test_an_agent_without_a_list_may_pay_every_provider_of_the_organisation() -> None:
    policy = agent_with(providers=None)
    for provider in ("paper-api", "other-api", OTHER_API.lower()):
        assert judge(provider=provider, policy=policy).outcome is Status.APPROVED
    assert judge(provider=STRANGER, policy=policy).outcome is Status.DENIED


def test_an_agents_list_names_providers_by_name_or_address() -> None:
    for listed in ("paper-api", PAPER_API, PAPER_API.lower()):
        policy = agent_with(providers=[listed])
        for provider in ("paper-api", PAPER_API):
            assert judge(provider=provider, policy=policy).outcome is Status.APPROVED
        assert codes(judge(provider="other-api", policy=policy)) == [
            ReasonCode.PROVIDER_NOT_ALLOWED
        ]


def test_an_agent_with_an_empty_list_may_pay_nobody() -> None:
    decision = judge(policy=agent_with(providers=[]))
    assert codes(decision) == [ReasonCode.PROVIDER_NOT_ALLOWED]


def test_without_categories_a_purchase_needs_none() -> None:
    changed = document()
    del changed["categories"]
    policy = Policy.from_dict(changed)
    assert judge(category=None, policy=policy).outcome is Status.APPROVED
    assert codes(judge(category="api", policy=policy)) == [
        ReasonCode.CATEGORY_NOT_ALLOWED,
        ReasonCode.NO_LIMIT_CONFIGURED,
    ]


def test_of_several_broken_limits_the_one_with_least_remaining_leads_and_all_are_told() -> None:
    usage = {
        **daily(AGENT, held="250"),
        **total(AGENT, spent="770"),
        **total(API, held="190"),
        **daily(ORGANISATION, held="480"),
        **total(ORGANISATION, spent="1100"),
    }
    decision = judge(amount="101", usage=usage)
    assert decision.outcome is Status.DENIED
    assert codes(decision) == [
        ReasonCode.ORGANISATION_LIMIT,  # -100 of the total
        ReasonCode.CATEGORY_LIMIT,  # 10
        ReasonCode.ORGANISATION_LIMIT,  # 20 of the day
        ReasonCode.TOTAL_LIMIT,  # 30
        ReasonCode.DAILY_LIMIT,  # 50
        ReasonCode.PER_PURCHASE_LIMIT,  # 100
    ]
    assert all(state.broken for state in decision.limits)


def test_a_limit_that_holds_is_listed_as_touched_but_is_no_reason() -> None:
    decision = judge(usage=total(API, held="190"))
    assert codes(decision) == [ReasonCode.CATEGORY_LIMIT]
    assert len(decision.limits) == 6
    assert [str(s.limit.scope) for s in decision.limits if s.broken] == ["category:api"]


def test_denials_of_fact_come_before_limits_and_every_one_is_told() -> None:
    decision = judge(
        amount="0.5",
        provider=STRANGER,
        category="travel",
        policy=disabled(),
        usage=daily(AGENT, held="300"),
        paused=[("organisation", ""), ("agent", "research-agent")],
        funds=POOR,
    )
    assert codes(decision) == [
        ReasonCode.PAUSED,
        ReasonCode.AGENT_DISABLED,
        ReasonCode.AGENT_PAUSED,
        ReasonCode.PROVIDER_NOT_ALLOWED,
        ReasonCode.BELOW_MINIMUM,
        ReasonCode.CATEGORY_NOT_ALLOWED,
        ReasonCode.NO_LIMIT_CONFIGURED,
        ReasonCode.DAILY_LIMIT,
    ]


def test_an_unknown_agent_is_told_who_is_registered() -> None:
    decision = judge(agent="nobody")
    assert decision.reason is not None
    assert decision.reason.code is ReasonCode.AGENT_NOT_REGISTERED
    assert "research-agent" in decision.reason.message


def test_unknown_funds_refuse_nothing() -> None:
    assert judge(funds=None).outcome is Status.APPROVED


def test_a_decision_names_the_provider_by_name_and_address_and_fills_in_its_service() -> None:
    for asked in ("paper-api", PAPER_API, PAPER_API.lower()):
        decision = judge(provider=asked)
        assert (decision.provider_name, decision.provider) == ("paper-api", PAPER_API)
        assert decision.service == "papers"
    assert judge(service="reviews").service == "reviews"


def test_a_decision_fills_in_the_default_category_and_charges_it() -> None:
    decision = judge(category=None)
    assert decision.category == "other"
    assert Scope(ScopeKind.CATEGORY, "other") in {key.scope for key in decision.counters}


def test_a_hold_charges_the_hour_the_total_and_what_is_limited_of_every_scope() -> None:
    provider = Scope(ScopeKind.PROVIDER, "paper-api")
    pool = Scope(ScopeKind.POOL, "readers")
    pair = Scope.pair(ScopeKind.AGENT_CATEGORY, "research-agent", "api")
    hour = NOW - NOW % 3600
    assert set(judge().counters) == {
        *(CounterKey(s, Window.HOURLY, hour) for s in (ORGANISATION, AGENT, API, provider, pool)),
        *(CounterKey(s, Window.DAILY, TODAY) for s in (ORGANISATION, AGENT)),
        *(CounterKey(s, Window.TOTAL, 0) for s in (ORGANISATION, AGENT, API, provider, pool, pair)),
    }


def test_a_purchase_of_nobody_charges_the_organisation_alone() -> None:
    windows = Rules(Policy.from_dict(document())).touched(Terms(), NOW).windows
    assert {scope for scope, _ in windows} == {ORGANISATION}


amounts = st.integers(min_value=1, max_value=1_200_000_000).map(Usdc.from_base_units)
usages = st.builds(Usage.of, st.one_of(st.just(ZERO), amounts), st.one_of(st.just(ZERO), amounts))


@given(
    amounts,
    st.fixed_dictionaries(
        {
            CounterKey(scope, window, start): usages
            for scope in (ORGANISATION, AGENT, API)
            for window, start in ((Window.DAILY, TODAY), (Window.TOTAL, 0))
        }
    ),
)
def test_nothing_is_admitted_that_makes_any_counter_exceed_its_limit(
    amount: Usdc, usage: dict[CounterKey, Usage]
) -> None:
    decision = judge(amount=str(amount), usage=usage)
    limits = {
        CounterKey(ORGANISATION, Window.DAILY, TODAY): Usdc("500"),
        CounterKey(ORGANISATION, Window.TOTAL, 0): Usdc("1000"),
        CounterKey(AGENT, Window.DAILY, TODAY): Usdc("300"),
        CounterKey(AGENT, Window.TOTAL, 0): Usdc("800"),
        CounterKey(API, Window.TOTAL, 0): Usdc("200"),
    }
    after = {key: used.held + used.spent + amount for key, used in usage.items()}
    fits = all(after[key] <= limit for key, limit in limits.items())
    in_order = Usdc("1") <= amount <= Usdc("100")
    if not (fits and in_order):
        assert decision.outcome is Status.DENIED
        assert decision.reasons
    elif amount > Usdc("50"):
        assert decision.outcome is Status.AWAITING_APPROVAL
    else:
        assert decision.outcome is Status.APPROVED
