"""Queries that the coordinator and its agents share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.limits.rules import Terms
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from coordinator.wiring import Wiring


def list_purchases(
    wiring: Wiring,
    *,
    agent: str | None,
    status: str | Iterable[str] | None,
    since: datetime | int | None,
    limit: int,
    after: str | None,
) -> Sequence[Purchase]:
    """Return purchases, newest first; ``after`` is the last id of the page before."""
    if type(limit) is not int or not 1 <= limit <= 10_000:
        raise InvalidRequest("limit must be 1 to 10000")
    return wiring.purchases.list(
        agent=agent, statuses=_statuses(status), since=unix_second(since), limit=limit, after=after
    )


def limit_states(
    wiring: Wiring,
    agent: str | None,
    category: str | None,
    *,
    provider: str | None,
    task: str | None,
    session: str | None,
) -> Sequence[LimitState]:
    """Return the limits of the organisation and of every scope named."""
    name, _ = wiring.policies.current().provider(provider or "")
    terms = Terms(agent, category, name, task, session)
    return wiring.limits.states(terms, now=wiring.clock())


def _statuses(status: str | Iterable[str] | None) -> list[Status]:
    if status is None:
        return []
    try:
        names = [status] if isinstance(status, str) else list(status)
        return [Status(name) for name in names]
    except (TypeError, ValueError):
        known = ", ".join(Status)
        raise InvalidRequest(f"the status must be one of {known}") from None


def unix_second(at: datetime | int | None) -> int | None:
    """Return the unix second; InvalidRequest for a time without its zone."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidRequest("a time needs its zone: datetime(…, tzinfo=UTC)")
        return int(at.timestamp())
    if at is not None and type(at) is not int:
        raise InvalidRequest("a time is a datetime with its zone, or a unix second")
    return at


def list_agents(
    wiring: Wiring, limits: Callable[[str], Sequence[LimitState]]
) -> Sequence[dict[str, Any]]:
    """Return every registered agent with its limits and what remains of them."""
    rules = wiring.policies.current_rules()
    agents = {agent_id: rules.policy.agent(agent_id) for agent_id in sorted(rules.policy.agents)}
    return [
        {
            "agent": agent_id,
            "name": agent.name or agent_id,
            "enabled": rules.enabled(agent_id),
            "role": agent.role,
            "approval_threshold": str(agent.approval_threshold or ZERO),
            "limits": limits(agent_id),
        }
        for agent_id, agent in agents.items()
        if agent is not None
    ]


def scope_of(*, x402: bool = False, **named: str | None) -> tuple[str, str]:
    """Return the one scope named, as (kind, id); the organisation if none is."""
    chosen = [(kind, of) for kind, of in named.items() if of is not None]
    if x402:
        chosen.append(("x402", ""))
    if len(chosen) > 1:
        raise InvalidRequest(f"name only one of {', '.join([*named, 'x402'])}")
    return chosen[0] if chosen else ("organisation", "")
