"""Explain an agent's limits in force: their amounts, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coordinator.domain.limits.limits import Limit, Scope, ScopeKind
from coordinator.domain.limits.rules import (
    SESSION,
    TASK,
    Grant,
    Openings,
    Rules,
    Terms,
    nothing_opened,
)
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window


class Effective(NamedTuple):
    """A limit with its ``grants``; ``source`` says where the amount without them comes from.

    A source is a key of the policy such as ``roles.junior.daily_limit``, ``allocation of pool p``
    or ``session s as opened``.
    """

    limit: Limit
    source: str
    grants: tuple[Grant, ...] = ()


def effective(
    rules: Rules, terms: Terms, now: int, openings: Openings = nothing_opened
) -> list[Effective]:
    """Return every limit that an amount with these terms touches at the unix second ``now``."""
    limits = list(rules.touched(terms, now, openings).limits)
    auto = rules.auto_approve(terms.agent, now) if terms.agent is not None else None
    if auto is not None:
        limits.append(auto)
    return [
        Effective(limit, _source(rules, limit, openings), _grants(rules, limit, now))
        for limit in limits
    ]


def effective_of_agent(
    rules: Rules,
    agent_id: str,
    now: int,
    openings: Openings = nothing_opened,
    *,
    task: str | None = None,
    session: str | None = None,
) -> list[Effective]:
    """Return every limit the agent can reach, over all categories and providers it may pay.

    Of tasks and sessions those of ``task`` and ``session``, or the policy's default. Each limit
    stands once.
    """
    policy = rules.policy
    if task is None and policy.tasks is not None and policy.tasks.default is not None:
        task = "default"
    if session is None and policy.sessions is not None and policy.sessions.default is not None:
        session = "default"
    found: dict[tuple[Scope, Window], Effective] = {}
    for category, provider in _choices(rules, agent_id):
        terms = Terms(agent_id, category, provider, task, session)
        for one in effective(rules, terms, now, openings):
            found.setdefault((one.limit.scope, one.limit.window), one)
    if policy.x402 is not None and isinstance(policy.x402.per_request_limit, Usdc):
        limit = Limit(Scope(ScopeKind.X402), Window.PER_PURCHASE, policy.x402.per_request_limit)
        found[limit.scope, limit.window] = Effective(limit, "x402.per_request_limit")
    return list(found.values())


def _choices(rules: Rules, agent_id: str) -> Iterator[tuple[str | None, str | None]]:
    """Yield (category, provider): neither, then each category and each provider by itself."""
    policy = rules.policy
    yield None, None
    for category in policy.categories.named:
        yield category, None
    agent = policy.agent(agent_id)
    named = agent.providers if agent is not None and agent.providers is not None else None
    for text in policy.providers if named is None else named:
        yield None, policy.provider(text)[0]


def _grants(rules: Rules, limit: Limit, now: int) -> tuple[Grant, ...]:
    return tuple(
        grant
        for grant in rules.overlays.grants
        if (grant.scope, grant.window) == (limit.scope, limit.window) and grant.holds(now)
    )


def _source(rules: Rules, limit: Limit, openings: Openings) -> str:
    """Return the place in the policy that gives the limit's amount without grants."""
    kind, name = limit.scope
    key = f"{limit.window}_limit"
    first, _, second = name.rpartition("/")
    match kind:
        case ScopeKind.ORGANISATION:
            return f"organisation.{key}"
        case ScopeKind.AGENT:
            return f"{_spender(rules, name, key)}.{key}"
        case ScopeKind.AUTO_APPROVED:
            key = "auto_approve_daily_limit"
            return f"{_spender(rules, name, key)}.{key}"
        case ScopeKind.AGENT_CATEGORY:
            own = second in rules.policy.agents[first].categories
            role = rules.policy.agents[first].role
            return f"{f'agents.{first}' if own else f'roles.{role}'}.categories.{second}.{key}"
        case ScopeKind.POOL_AGENT:
            return f"allocation of pool {first}"
        case ScopeKind.TASK | ScopeKind.SESSION:
            return _run(rules, kind.value, name, limit.window, openings, key)
        case ScopeKind.TASK_CATEGORY:
            task, opened = rules.task_limits(first), openings(TASK, first)
            stated = task.categories.get(second) if task else None
            if opened and limit.window in opened.own(stated.amounts if stated else {}, second):
                return f"task {first} as opened"
            return f"tasks.{_listed(rules, TASK, first)}.categories.{second}.{key}"
        case ScopeKind.CATEGORY:
            return f"categories.{name}.{key}"
        case _:
            return f"{kind.value}s.{name}.{key}"


def _spender(rules: Rules, agent_id: str, key: str) -> str:
    """Name the table that has the key: the agent's or its role's."""
    agent = rules.policy.agents[agent_id]
    window = key.removesuffix("_limit")
    own = window in agent.rolling or getattr(agent, key, None) is not None
    return f"agents.{agent_id}" if own else f"roles.{agent.role}"


def _run(rules: Rules, kind: str, name: str, window: Window, openings: Openings, key: str) -> str:
    stated = rules.task_limits(name) if kind == TASK else rules.session_limits(name)
    opened = openings(kind, name)
    if opened and window in opened.own(stated.amounts if stated else {}):
        return f"{kind} {name} as opened"
    return f"{kind}s.{_listed(rules, kind, name)}.{key}"


def _listed(rules: Rules, kind: str, name: str) -> str:
    """Name the policy's table with the limits of a task or session."""
    tasks, sessions = rules.policy.tasks, rules.policy.sessions
    if kind == SESSION:
        return name if sessions is not None and name in sessions.named else "default"
    return name if tasks is not None and name in tasks.named else "default"
