"""Decide on a request: approved, awaiting approval, or denied, with every reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.limits.limits import CounterKey, Limit, LimitState, Reader, check_limits
from coordinator.domain.limits.rules import SESSION, TASK, Openings, Rules, Terms, nothing_opened
from coordinator.domain.policy.payees import not_bound, not_payable
from coordinator.domain.policy.tables import Provider
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.request import Request
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.usdc import ZERO, Usdc


@dataclass(frozen=True, slots=True)
class Funds:
    """The USDC still available in the treasury, by balances at most 60 s old.

    ``usdc_free`` is the USDC less what unfinished purchases need; ``gas_is_enough`` tells
    whether one more purchase could be finished and cancelled. The balances are those of a block,
    read ``age_seconds`` ago.
    """

    usdc_free: Usdc
    gas_is_enough: bool
    block_number: int = 0
    age_seconds: int = 0

    @property
    def as_of(self) -> str:
        return f"as of block {self.block_number}, read {self.age_seconds} s ago"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a decision, all read in its own transaction.

    ``usage`` reads counters; ``paused`` holds the scopes that are stopped, as (kind, id);
    ``funds`` is None when the balances are unknown or old, and then refuses nothing.
    ``by_people`` says that people have approved it: no threshold asks again. ``waiting`` tells how
    much of an agent waits for people already.
    """

    rules: Rules
    now: int
    minimum: Usdc
    usage: Reader
    paused: frozenset[tuple[str, str]] = frozenset()
    funds: Funds | None = None
    openings: Openings = nothing_opened
    by_people: bool = False
    waiting: Callable[[str], int] = lambda agent: 0


@dataclass(frozen=True, slots=True)
class Decision(Shown):
    """``outcome`` is DENIED, AWAITING_APPROVAL or APPROVED; ``reasons`` lists every cause.

    ``counters`` are the rows that the hold charges; ``limits`` every limit that was touched;
    ``required`` how many have to approve it.
    """

    outcome: Status
    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]
    counters: tuple[CounterKey, ...]
    provider: str
    provider_name: str | None
    service: str | None
    category: str | None
    required: int = 0

    @property
    def reason(self) -> Reason | None:
        return self.reasons[0] if self.reasons else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, with the names that a purchase has for the same."""
        return {
            "outcome": self.outcome.value,
            "reason": self.reason.as_dict() if self.reason else None,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "limits": [state.as_dict() for state in self.limits],
            "provider": self.provider,
            "provider_name": self.provider_name,
            "service": self.service,
            "category": self.category,
            "required": self.required,
        }

    @property
    def short_of_funds(self) -> bool:
        """Whether lack of the treasury's USDC or gas is the only reason to deny it."""
        denied = self.outcome is Status.DENIED
        return denied and all(reason.code in OF_FUNDS for reason in self.reasons)


OF_FUNDS: Final = frozenset({ReasonCode.INSUFFICIENT_USDC, ReasonCode.INSUFFICIENT_GAS})


def decide(request: Request, facts: Facts) -> Decision:
    """Check the request against the whole policy at once.

    Denials of fact (agent, provider, category, pause) come before limits, limits before funds;
    of several broken limits the one with least remaining leads. A limit allows equal, the
    threshold asks above equal.
    """
    policy = facts.rules.policy
    provider_name, provider = policy.provider(request.provider)
    category = request.category or policy.categories.default
    terms = Terms(
        request.agent, category, provider_name, request.task, request.session, request.is_x402
    )
    limits, counters = judge_limits(terms, request.amount, facts)
    reasons = [
        *stopped_reasons(terms, facts),
        *_fit(request, facts, provider_name, category),
        *runs_allowed(terms, facts),
        *broken(limits, request.amount),
    ]
    if not reasons:
        reasons = _funds(request, facts)
    outcome, required = Status.DENIED, 0
    if not reasons:
        outcome = Status.APPROVED
        auto = auto_limit(request.agent, facts)
        why = None if facts.by_people else _asks(request, facts, auto)
        most = policy.approvals.waiting_max
        if why is not None and facts.waiting(request.agent) >= most:
            outcome, reasons = Status.DENIED, [too_many_waiting(request.agent, most)]
        elif why is not None:
            outcome = Status.AWAITING_APPROVAL
            required = policy.approvals.required_for(request.amount)
            reasons = [Reason(ReasonCode.APPROVAL_REQUIRED, f"{why}; approvals needed: {required}")]
        elif not facts.by_people:
            counters = (*counters, *auto_counters(request.agent, facts))
    return Decision(
        outcome=outcome,
        reasons=tuple(reasons),
        limits=limits,
        counters=counters,
        provider=provider.address if provider else request.provider,
        provider_name=provider_name,
        service=_service(request, provider),
        category=category,
        required=required,
    )


def _service(request: Request, provider: Provider | None) -> str | None:
    # Whoever is paid for an HTTP request knows what was asked for.
    if request.is_x402 or provider is None:
        return request.service
    return request.service or provider.service


def _asks(request: Request, facts: Facts, auto: Limit | None) -> str | None:
    if request.host is not None:
        unbound = not_bound(facts.rules.policy, request.provider, request.host)
        if unbound is not None:
            return unbound
    return asks(request.agent, request.amount, facts, auto)


def too_many_waiting(agent_id: str, most: int) -> Reason:
    """Return the reason why nothing more of the agent may wait for people."""
    text = f"{most} requests of {agent_id} wait for approval already, which is the most at once"
    return Reason(ReasonCode.TOO_MANY_WAITING, text)


def judge_limits(
    terms: Terms, amount: Usdc, facts: Facts, *more: Limit
) -> tuple[tuple[LimitState, ...], tuple[CounterKey, ...]]:
    """Return every limit these terms touch with its remainder, and the counters to charge."""
    return facts.rules.states(terms, amount, facts.now, facts.usage, facts.openings, *more)


def broken(limits: Iterable[LimitState], asked: Usdc) -> Iterable[Reason]:
    """Return a reason for each limit that would be exceeded, least remaining first."""
    exceeded = sorted((state for state in limits if state.broken), key=lambda s: s.remaining)
    return [state.reason(asked) for state in exceeded]


def auto_limit(agent_id: str, facts: Facts) -> Limit | None:
    """Return the limit on daily spending without approval; None if the policy sets none."""
    return facts.rules.auto_approve(agent_id, facts.now)


def auto_counters(agent_id: str, facts: Facts) -> tuple[CounterKey, ...]:
    """Return the counters of spending without approval; empty if nothing limits it."""
    return facts.rules.auto_approved(agent_id, facts.now)


def asks(agent_id: str, amount: Usdc, facts: Facts, auto: Limit | None) -> str | None:
    """Return why approval is needed, or None. ``auto`` is the daily limit without approval."""
    policy = facts.rules.policy
    threshold = policy.threshold(agent_id)
    if threshold is not None and amount > threshold:
        return f"{amount} USDC is above {agent_id}'s approval threshold of {threshold}"
    tier = policy.approvals.lowest_tier
    if tier is not None and amount > tier:
        return f"{amount} USDC is above the approval tier of {tier}"
    if auto is None:
        return None
    calendar = facts.rules.calendar
    (state,) = check_limits([auto], facts.usage, amount, facts.now, calendar)
    if not state.broken:
        return None
    return (
        f"{agent_id} may spend {auto.amount} USDC a day without approval;"
        f" {max(ZERO, state.remaining)} remains"
    )


def stopped_reasons(terms: Terms, facts: Facts) -> Iterable[Reason]:
    """Yield the reasons why this agent may not spend now, or not with this provider."""
    policy, agent_id = facts.rules.policy, terms.agent or ""
    if ("organisation", "") in facts.paused:
        yield Reason(ReasonCode.PAUSED, "spending is paused until an approver unpauses it")
    if policy.agent(agent_id) is None:
        known = ", ".join(sorted(policy.agents)) or "none"
        yield Reason(
            ReasonCode.AGENT_NOT_REGISTERED,
            f"{agent_id} is not an agent of the policy; registered: {known}",
        )
        return
    if not facts.rules.enabled(agent_id):
        yield Reason(ReasonCode.AGENT_DISABLED, f"{agent_id} is disabled")
    if not facts.paused:
        return
    if terms.x402 and ("x402", "") in facts.paused:
        text = "payments for HTTP requests are paused until an approver unpauses them"
        yield Reason(ReasonCode.PAUSED, text)
    if ("agent", agent_id) in facts.paused:
        yield Reason(ReasonCode.AGENT_PAUSED, f"{agent_id} is paused")
    stopped = policy.stops(agent_id, terms.provider) & facts.paused
    for name in sorted(of for kind, of in stopped if kind == "pool"):
        yield Reason(ReasonCode.POOL_PAUSED, f"pool {name} of {agent_id} is paused")
    if terms.provider and ("provider", terms.provider) in facts.paused:
        yield Reason(ReasonCode.PROVIDER_PAUSED, f"{terms.provider} is paused")


def runs_allowed(terms: Terms, facts: Facts) -> Iterable[Reason]:
    """Yield the reasons against the task or session, or against leaving it out."""
    policy = facts.rules.policy
    tasks, sessions = policy.tasks, policy.sessions
    if terms.task is None:
        if tasks is not None and tasks.required:
            yield Reason(ReasonCode.TASK_REQUIRED, "name a task: the policy requires one")
    else:
        limited = tasks is None or facts.rules.task_limits(terms.task) is not None
        yield from _run_allowed(TASK, terms.task, terms, facts, limited)
    if terms.session is None:
        if sessions is not None and sessions.required:
            yield Reason(ReasonCode.SESSION_REQUIRED, "name a session: the policy requires one")
    else:
        limited = sessions is None or facts.rules.session_limits(terms.session) is not None
        yield from _run_allowed(SESSION, terms.session, terms, facts, limited)


def _run_allowed(
    kind: str, name: str, terms: Terms, facts: Facts, limited: bool
) -> Iterable[Reason]:
    opened = facts.openings(kind, name)
    if not limited and (opened is None or opened.by_agent):
        text = f"{kind} {name} has no limits: open it, or give the policy a default for {kind}s"
        yield Reason(ReasonCode.NO_LIMIT_CONFIGURED, text)
    if opened is None:
        return
    if opened.closed:
        yield Reason(ReasonCode(f"{kind}_closed"), f"{kind} {name} is closed")
    if opened.agent is not None and opened.agent != terms.agent:
        text = f"{kind} {name} belongs to another agent"
        yield Reason(ReasonCode(f"{kind}_not_allowed"), text)


def category_allowed(category: str | None, facts: Facts) -> Iterable[Reason]:
    """Yield the reasons against the category, or against leaving it out."""
    named = facts.rules.policy.categories.named
    if category is None:
        if named:
            text = f"name a category, one of: {', '.join(sorted(named))}"
            yield Reason(ReasonCode.CATEGORY_REQUIRED, text)
        return
    if category not in named:
        known = ", ".join(sorted(named)) or "none"
        yield Reason(
            ReasonCode.CATEGORY_NOT_ALLOWED,
            f"{category} is not a category of the policy; categories: {known}",
        )
        yield Reason(ReasonCode.NO_LIMIT_CONFIGURED, f"category {category} has no limit")


def _fit(
    request: Request, facts: Facts, provider_name: str | None, category: str | None
) -> Iterable[Reason]:
    yield from _payee_fits(request, facts, provider_name)
    if request.amount < facts.minimum and not request.is_x402:
        yield Reason(
            ReasonCode.BELOW_MINIMUM,
            f"{request.amount} USDC is below the escrow's minimum of {facts.minimum}",
        )
    yield from category_allowed(category, facts)


def _payee_fits(request: Request, facts: Facts, provider_name: str | None) -> Iterable[Reason]:
    policy = facts.rules.policy
    agent = policy.agent(request.agent)
    subset = agent.providers if agent else None
    if subset is not None:
        subset = [name for text in subset if (name := policy.provider(text)[0])]
    asks_people = request.is_x402 and policy.request_payments.unknown_payees == "ask"
    shown, (_, provider) = provider_name or request.provider, policy.provider(request.provider)
    address = provider.address if provider is not None else request.provider
    may_be_unlisted = asks_people and provider_name is None and subset is None
    if not may_be_unlisted and (
        provider_name is None or (subset is not None and provider_name not in subset)
    ):
        text = f"{shown} is not a provider that {request.agent} may pay"
        yield Reason(ReasonCode.PROVIDER_NOT_ALLOWED, text)
    elif (why := not_payable(address, facts.rules.contracts)) is not None:
        yield Reason(ReasonCode.INVALID_PROVIDER, why)
    elif request.host is not None and not asks_people:
        unbound = not_bound(policy, request.provider, request.host)
        if unbound is not None:
            yield Reason(ReasonCode.PROVIDER_NOT_ALLOWED, unbound)
    price = provider.price if provider is not None and request.is_x402 else None
    if price is not None and request.amount > price:
        text = f"{shown} asks {request.amount} USDC; the policy has a price of {price}"
        yield Reason(ReasonCode.PRICE_ABOVE_REGISTERED, text)


def _payer(request: Request) -> str:
    return "the wallet for HTTP requests" if request.is_x402 else "the treasury"


def _funds(request: Request, facts: Facts) -> list[Reason]:
    if facts.funds is None:
        return []
    reasons = []
    if request.amount > facts.funds.usdc_free:
        reasons.append(
            Reason(
                ReasonCode.INSUFFICIENT_USDC,
                f"{_payer(request)} has {facts.funds.usdc_free} USDC available"
                f" ({facts.funds.as_of}); {request.amount} was requested",
            )
        )
    if not facts.funds.gas_is_enough and not request.is_x402:
        reasons.append(
            Reason(
                ReasonCode.INSUFFICIENT_GAS,
                f"the treasury has too little ETH to pay this purchase's gas ({facts.funds.as_of})",
            )
        )
    return reasons
