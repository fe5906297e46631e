"""The decision on a request: allowed, asks a human, or denied, with every reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from coordinator.domain.limits import (
    CounterKey,
    LimitState,
    Scope,
    ScopeKind,
    Usage,
    check_limits,
    counters_touched,
)
from coordinator.domain.policy import Policy
from coordinator.domain.purchase import Request, Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc


@dataclass(frozen=True, slots=True)
class Funds:
    """What the treasury could still promise, by the balances last read (at most 60 s old).

    ``usdc_free`` is the USDC less what unfinished purchases need; ``gas_is_enough`` tells
    whether one more purchase could be finished and cancelled.
    """

    usdc_free: Usdc
    gas_is_enough: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision is made from, all read in its own transaction.

    ``usage`` reads counters; ``paused`` holds the scopes that are stopped, as (kind, id);
    ``funds`` is None when the balances are unknown or old, and then refuses nothing.
    """

    policy: Policy
    now: int
    minimum: Usdc
    usage: Callable[[Iterable[CounterKey]], Mapping[CounterKey, Usage]]
    paused: frozenset[tuple[str, str]]
    funds: Funds | None


@dataclass(frozen=True, slots=True)
class Decision:
    """``outcome`` is DENIED, AWAITING_APPROVAL or APPROVED; ``reasons`` lists every cause.

    ``counters`` are the rows that the hold charges; ``limits`` every limit that was touched.
    """

    outcome: Status
    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]
    counters: tuple[CounterKey, ...]
    provider: str
    provider_name: str | None
    service: str | None
    category: str | None

    @property
    def reason(self) -> Reason | None:
        return self.reasons[0] if self.reasons else None


def decide(request: Request, facts: Facts) -> Decision:
    """Judge the whole policy at once.

    Denials of fact (agent, provider, category, pause) come before limits, limits before funds;
    of several broken limits the one with least remaining leads. A limit allows equal, the
    threshold asks above equal.
    """
    policy = facts.policy
    provider_name, provider = policy.provider(request.provider)
    category = request.category or policy.categories.default
    scopes = purchase_scopes(request.agent, category)
    counters = counters_touched(scopes, facts.now, policy.zone)
    limits = check_limits(
        policy.limits(request.agent, category),
        facts.usage(counters),
        request.amount,
        facts.now,
        policy.zone,
    )
    broken = sorted((state for state in limits if state.broken), key=lambda s: s.remaining)
    reasons = [
        *_standing(request, facts, provider_name),
        *_fit(request, facts, provider_name, category),
        *(state.reason(request.amount) for state in broken),
    ]
    if not reasons:
        reasons = _funds(request, facts)
    outcome = Status.DENIED
    if not reasons:
        outcome = Status.APPROVED
        threshold = policy.threshold(request.agent)
        if threshold is not None and request.amount > threshold:
            outcome = Status.AWAITING_APPROVAL
            reasons = [
                Reason(
                    ReasonCode.APPROVAL_REQUIRED,
                    f"{request.amount} USDC is above {request.agent}'s threshold, {threshold};"
                    f" approvals needed: {policy.approvals.required}",
                )
            ]
    return Decision(
        outcome=outcome,
        reasons=tuple(reasons),
        limits=limits,
        counters=counters,
        provider=provider.address if provider else request.provider,
        provider_name=provider_name,
        service=request.service or (provider.service if provider else None),
        category=category,
    )


def purchase_scopes(agent: str | None, category: str | None) -> tuple[Scope, ...]:
    """The scopes whose counters a purchase charges; without an agent, the organisation's."""
    scopes = [Scope(ScopeKind.ORGANISATION)]
    if agent is not None:
        scopes.append(Scope(ScopeKind.AGENT, agent))
    if category is not None:
        scopes.append(Scope(ScopeKind.CATEGORY, category))
    return tuple(scopes)


def _standing(request: Request, facts: Facts, provider_name: str | None) -> Iterable[Reason]:
    agent = facts.policy.agent(request.agent)
    if ("organisation", "") in facts.paused:
        yield Reason(ReasonCode.PAUSED, "spending is paused until an approver unpauses it")
    if agent is None:
        known = ", ".join(sorted(facts.policy.agents)) or "none"
        yield Reason(
            ReasonCode.AGENT_NOT_REGISTERED,
            f"{request.agent} is not an agent of the policy; registered: {known}",
        )
        return
    if not agent.enabled:
        yield Reason(ReasonCode.AGENT_DISABLED, f"{request.agent} is disabled in the policy")
    if ("agent", request.agent) in facts.paused:
        yield Reason(ReasonCode.AGENT_PAUSED, f"{request.agent} is paused")
    stopped = facts.policy.stops(request.agent, provider_name) & facts.paused
    for name in sorted(of for kind, of in stopped if kind == "pool"):
        yield Reason(ReasonCode.POOL_PAUSED, f"pool {name} of {request.agent} is paused")
    if provider_name and ("provider", provider_name) in facts.paused:
        yield Reason(ReasonCode.PROVIDER_PAUSED, f"{provider_name} is paused")


def _fit(
    request: Request, facts: Facts, provider_name: str | None, category: str | None
) -> Iterable[Reason]:
    policy = facts.policy
    agent = policy.agent(request.agent)
    subset = agent.providers if agent else None
    if subset is not None:
        subset = [name for text in subset if (name := policy.provider(text)[0])]
    if provider_name is None or (subset is not None and provider_name not in subset):
        shown = provider_name or request.provider
        yield Reason(
            ReasonCode.PROVIDER_NOT_ALLOWED,
            f"{shown} is not on the list of providers that {request.agent} may pay",
        )
    if request.amount < facts.minimum:
        yield Reason(
            ReasonCode.BELOW_MINIMUM,
            f"{request.amount} USDC is below {facts.minimum}, the least that the rail can"
            " always give back",
        )
    if category is None and policy.categories.named:
        yield Reason(
            ReasonCode.CATEGORY_REQUIRED,
            f"name a category: {', '.join(sorted(policy.categories.named))}",
        )
    elif category is not None and category not in policy.categories.named:
        known = ", ".join(sorted(policy.categories.named)) or "none"
        yield Reason(
            ReasonCode.CATEGORY_NOT_ALLOWED, f"{category} is not a category of the policy: {known}"
        )


def _funds(request: Request, facts: Facts) -> list[Reason]:
    if facts.funds is None:
        return []
    reasons = []
    if request.amount > facts.funds.usdc_free:
        reasons.append(
            Reason(
                ReasonCode.INSUFFICIENT_USDC,
                f"the treasury has {facts.funds.usdc_free} USDC that is not promised yet;"
                f" {request.amount} was asked",
            )
        )
    if not facts.funds.gas_is_enough:
        reasons.append(
            Reason(
                ReasonCode.INSUFFICIENT_GAS,
                "the treasury's ETH would not pay for finishing or cancelling this purchase",
            )
        )
    return reasons
