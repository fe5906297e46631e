"""Requests of agents to raise a limit for a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.limits import Limit, Scope, ScopeKind
from coordinator.domain.limits.rules import SESSION, TASK, Openings, Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

INCREASE: Final = "increase"
EMERGENCY: Final = "emergency"
# What belongs to one agent alone; the rest is others' money too, and only people give of it.
_OWN: Final = frozenset({ScopeKind.AGENT, ScopeKind.AGENT_CATEGORY, ScopeKind.AUTO_APPROVED})


class IncreaseStatus(StrEnum):
    """Waiting for approvers; granted until it ends; rejected; expired without a decision."""

    WAITING = "waiting"
    GRANTED = "granted"
    REJECTED = "rejected"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Increase(Shown):
    """A request to raise a limit, and its decision; times are unix seconds, UTC.

    ``kind`` is "increase", more money for the scope, or "emergency", money of the pool's other
    agents. ``ends_at`` is when a granted one is over.
    """

    id: str
    kind: str
    agent: str
    scope: Scope
    window: Window
    amount: Usdc
    lasts_seconds: int
    why: str
    status: IncreaseStatus
    required: int
    created_at: int
    expires_at: int
    approved_by: tuple[str, ...] = ()
    ends_at: int | None = None
    reason: Reason | None = None

    @property
    def terms(self) -> Terms:
        """Return the terms of a request that would touch the limit."""
        return _terms(self.agent, self.scope)

    @property
    def granted(self) -> bool:
        return self.status is IncreaseStatus.GRANTED

    @property
    def waits(self) -> bool:
        return self.status is IncreaseStatus.WAITING

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON: amounts are strings, times RFC 3339 in UTC."""
        return {
            "increase_id": self.id,
            "kind": self.kind,
            "agent": self.agent,
            "scope": str(self.scope),
            "window": self.window.value,
            "amount": str(self.amount),
            "lasts_seconds": self.lasts_seconds,
            "why": self.why,
            "status": self.status.value,
            "required": self.required,
            "approved_by": list(self.approved_by),
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ends_at": rfc3339(self.ends_at),
            "reason": self.reason.as_dict() if self.reason else None,
        }


def check_requested(
    kind: str, agent: str, scope: Scope, window: Window, rules: Rules, openings: Openings, now: int
) -> None:
    """Raise InvalidRequest unless the scope is the agent's and has a limit over this window."""
    limits = rules.touched(_terms(agent, scope), now, openings).limits
    auto = rules.auto_approve(agent, now)
    known = {(limit.scope, limit.window) for limit in (*limits, *([auto] if auto else []))}
    if not _touches(agent, scope, rules.policy) or _belongs_to_other(agent, scope, openings):
        raise InvalidRequest(f"{agent} can't ask for more of {scope}: the limit is not its own")
    if (scope, window) not in known:
        raise InvalidRequest(f"{scope} has no {window} limit to raise")
    if kind == EMERGENCY and scope.kind is not ScopeKind.POOL_AGENT:
        raise InvalidRequest("an emergency needs a pool whose limit was shared among its agents")


def judged(
    agent: str, kind: str, scope: Scope, amount: Usdc, running: Usdc, rules: Rules
) -> tuple[IncreaseStatus, Reason | None]:
    """Grant it without approval, refuse it with the reason, or let it wait for approvers.

    ``running`` is what the agent has been granted and still has in the same scope and window: it
    and the amount together may be at most the maximum.
    """
    if not rules.enabled(agent):
        code = ReasonCode.AGENT_DISABLED
        if rules.policy.agent(agent) is None:
            code = ReasonCode.AGENT_NOT_REGISTERED
        return IncreaseStatus.REJECTED, Reason(
            code, f"{agent} may not ask: it is not registered, or it is disabled"
        )
    settings = rules.policy.increases
    if settings is None:
        return IncreaseStatus.WAITING, None
    if running + amount > settings.maximum:
        return IncreaseStatus.REJECTED, Reason(
            ReasonCode.INCREASE_LIMIT,
            f"{amount} USDC and the {running} already granted exceed the maximum of"
            f" {settings.maximum}",
        )
    least = settings.auto_approve_from_priority
    known = rules.policy.agent(agent)
    priority = known.priority if known is not None else None
    trusted = least is not None and priority is not None and priority >= least
    if trusted and kind == INCREASE and scope.kind in _OWN:
        return IncreaseStatus.GRANTED, None
    return IncreaseStatus.WAITING, None


def may_decide(policy: Policy, increase: Increase, approver: str) -> Reason | None:
    """Return the reason why the approver may not decide it, or None; the asking agent may not."""
    known = policy.approvals.approvers.get(approver)
    if known is None or approver == increase.agent:
        names = ", ".join(policy.approvals.approvers) or "none"
        text = f"{approver} may not decide this; approvers: {names}"
        return Reason(ReasonCode.NOT_AN_APPROVER, text)
    if known.up_to is not None and increase.amount > known.up_to:
        text = (
            f"{approver} may decide up to {known.up_to} USDC; this request is for {increase.amount}"
        )
        return Reason(ReasonCode.NOT_AN_APPROVER, text)
    if increase.status is IncreaseStatus.EXPIRED:
        text = f"this request expired at {rfc3339(increase.expires_at)}; the agent must ask again"
        return Reason(ReasonCode.APPROVAL_EXPIRED, text)
    if not increase.waits:
        text = f"this request does not wait for approval: it is {increase.status}"
        return Reason(ReasonCode.APPROVAL_NOT_FOUND, text)
    return None


def raised(rules: Rules, scope: Scope, window: Window, now: int) -> Usdc:
    """Sum the amounts granted at ``now`` on top of the policy's limit; never below zero."""
    return max(ZERO, rules.amount(Limit(scope, window, ZERO), now))


def _terms(agent: str, scope: Scope) -> Terms:
    first, _, second = scope.id.rpartition("/")
    if scope.kind is ScopeKind.AGENT_CATEGORY:
        return Terms(agent, second)
    if scope.kind is ScopeKind.TASK_CATEGORY:
        return Terms(agent, second, task=first)
    if scope.kind is ScopeKind.TASK:
        return Terms(agent, task=scope.id)
    if scope.kind is ScopeKind.SESSION:
        return Terms(agent, session=scope.id)
    return Terms(agent)


def _touches(agent: str, scope: Scope, policy: Policy) -> bool:
    pools = policy.pools_of.get(agent, ())
    return (
        (scope.kind in (ScopeKind.AGENT, ScopeKind.AUTO_APPROVED) and scope.id == agent)
        or (scope.kind is ScopeKind.AGENT_CATEGORY and scope.id.startswith(f"{agent}/"))
        or (scope.kind is ScopeKind.POOL and scope.id in pools)
        or (scope.kind is ScopeKind.POOL_AGENT and scope.id in {f"{p}/{agent}" for p in pools})
        or scope.kind in (ScopeKind.TASK, ScopeKind.TASK_CATEGORY, ScopeKind.SESSION)
    )


def _belongs_to_other(agent: str, scope: Scope, openings: Openings) -> bool:
    """Return whether the scope is a task or session that belongs to another agent."""
    name = scope.id
    if scope.kind is ScopeKind.TASK_CATEGORY:
        name = scope.id.rpartition("/")[0]
    elif scope.kind not in (ScopeKind.TASK, ScopeKind.SESSION):
        return False
    opened = openings(SESSION if scope.kind is ScopeKind.SESSION else TASK, name)
    return opened is not None and opened.agent not in (None, agent)
