"""Costs without an escrow: model calls, gas at a rate, fees. They count in limits all the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.inputs import free_text, identifier, positive_amount
from coordinator.domain.limits.limits import CounterKey, Limit, LimitState, Scope, ScopeKind
from coordinator.domain.limits.rules import Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.decision import (
    Facts,
    asks,
    auto_counters,
    auto_limit,
    broken,
    category_allowed,
    judge_limits,
    runs_allowed,
    stopped_reasons,
)
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

_TEXT_LENGTH: Final = 200
_PURPOSE_LENGTH: Final = 2000


class CostStatus(StrEnum):
    """Refused; reserved; spent; given back."""

    DENIED = "denied"
    HELD = "held"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class CostRequest:
    """One well-formed cost; ``provider`` is any name, a provider of the policy by name or address.

    ``x402`` marks a payment for a single HTTP request, which has a limit of its own.
    """

    agent: str
    amount: Usdc
    category: str | None = None
    provider: str | None = None
    task: str | None = None
    session: str | None = None
    purpose: str | None = None
    x402: bool = False

    @classmethod
    def of(
        cls,
        *,
        agent: object,
        amount: object,
        category: object = None,
        provider: object = None,
        task: object = None,
        session: object = None,
        purpose: object = None,
        x402: bool = False,
    ) -> CostRequest:
        """Return the cost, checked; ``InvalidRequest`` with one sentence when it is malformed."""
        return cls(
            agent=identifier("agent", agent),
            amount=positive_amount(amount),
            category=None if category is None else identifier("category", category),
            provider=None if provider is None else identifier("provider", provider),
            task=None if task is None else free_text("task", task, _TEXT_LENGTH),
            session=None if session is None else free_text("session", session, _TEXT_LENGTH),
            purpose=None if purpose is None else free_text("purpose", purpose, _PURPOSE_LENGTH),
            x402=x402,
        )

    def terms(self, policy: Policy) -> Terms:
        """Return the terms that decide which limits it touches, by the policy's own names."""
        category = self.category or policy.categories.default
        provider = self.provider
        if provider is not None:
            provider = policy.provider(provider)[0] or provider
        return Terms(self.agent, category, provider, self.task, self.session)


@dataclass(frozen=True, slots=True)
class Cost(Shown):
    """A cost as the ledger knows it; times are unix seconds, UTC.

    ``amount`` is what was held (or spent, when it was recorded), ``posted`` what it came to. An
    abandoned hold is posted in full at ``expires_at``. ``by_owner`` is False where it ended
    without the owner, who may still say what it came to. ``limits`` are those that its decision
    touched, before its own hold.
    """

    id: str
    status: CostStatus
    request: CostRequest
    category: str | None
    posted: Usdc
    created_at: int
    expires_at: int | None
    reasons: tuple[Reason, ...] = ()
    limits: tuple[LimitState, ...] = ()
    by_owner: bool = True

    def counts(self, actual: Usdc) -> bool:
        """Return whether posting ``actual`` now changes the amount that counts.

        Yes while it is held; after it ended without its owner, where that is more.
        """
        held = self.status is CostStatus.HELD
        return held or (not self.by_owner and actual > self.posted)

    @property
    def ok(self) -> bool:
        """Whether its amount is held or spent."""
        return self.status in (CostStatus.HELD, CostStatus.POSTED)

    @property
    def denied(self) -> bool:
        return self.status is CostStatus.DENIED

    @property
    def reason(self) -> Reason | None:
        return self.reasons[0] if self.reasons else None

    @property
    def amount(self) -> Usdc:
        return self.request.amount

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON: amounts are strings, times RFC 3339 in UTC."""
        asked = self.request
        return {
            "cost_id": self.id,
            "status": self.status.value,
            "agent": asked.agent,
            "amount": str(asked.amount),
            "posted": str(self.posted),
            "category": self.category,
            "provider": asked.provider,
            "task": asked.task,
            "session": asked.session,
            "purpose": asked.purpose,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "reason": self.reason.as_dict() if self.reason else None,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "limits": [state.as_dict() for state in self.limits],
        }


@dataclass(frozen=True, slots=True)
class CostDecision(Shown):
    """The decision on a cost: reasons against it (none: allowed), and the counters it charges."""

    reasons: tuple[Reason, ...]
    limits: tuple[LimitState, ...]
    counters: tuple[CounterKey, ...]
    terms: Terms

    def as_dict(self) -> dict[str, Any]:
        """Return as JSON whether it fits, every reason if not, and the limits it touches."""
        return {
            "ok": not self.reasons,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "limits": [state.as_dict() for state in self.limits],
        }


def judge_cost(request: CostRequest, facts: Facts) -> CostDecision:
    """Check the cost against the whole policy, as a purchase, without the escrow's rules.

    No allowlist, no minimum, no balance. What would ask a human is refused: a cost can't wait; so
    it counts in what passes without people.
    """
    policy = facts.rules.policy
    terms = request.terms(policy)
    limits, counters = judge_limits(terms, request.amount, facts, *_x402(request, facts))
    reasons = (
        *stopped_reasons(terms, facts),
        *category_allowed(terms.category, facts),
        *runs_allowed(terms, facts),
        *broken(limits, request.amount),
    )
    return CostDecision(
        reasons=reasons or tuple(_asks(request, facts)),
        limits=limits,
        counters=(*counters, *auto_counters(request.agent, facts)),
        terms=terms,
    )


def cost_counters(request: CostRequest, facts: Facts) -> CostDecision:
    """Return the counters and limits touched by a cost that is already spent."""
    terms = request.terms(facts.rules.policy)
    limits, counters = judge_limits(terms, ZERO, facts)
    return CostDecision((), limits, (*counters, *auto_counters(request.agent, facts)), terms)


def _x402(request: CostRequest, facts: Facts) -> Iterable[Limit]:
    x402 = facts.rules.policy.x402
    if request.x402 and x402 is not None and isinstance(x402.per_request_limit, Usdc):
        yield Limit(Scope(ScopeKind.X402), Window.PER_PURCHASE, x402.per_request_limit)


def _asks(request: CostRequest, facts: Facts) -> Iterable[Reason]:
    auto = auto_limit(request.agent, facts)
    why = asks(request.agent, request.amount, facts, auto)
    if why is not None:
        yield Reason(ReasonCode.APPROVAL_REQUIRED, f"{why}; a cost can't wait for approval")
