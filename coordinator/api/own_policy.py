"""Tell an agent its part of the policy: limits, whom it may pay, when people are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.domain.errors import UnknownId
from coordinator.domain.limits.effective import Effective
from coordinator.domain.policy.policy import Policy
from coordinator.wiring import Wiring


def own_policy(wiring: Wiring, agent_id: str) -> dict[str, Any]:
    """Return the policy in force as it concerns the agent, as JSON; UnknownId for a stranger."""
    rules = wiring.policies.current_rules()
    policy, agent = rules.policy, rules.policy.agent(agent_id)
    if agent is None:
        raise UnknownId(f"{agent_id} is not an agent of the policy")
    threshold = policy.threshold(agent_id)
    found = wiring.limits.effective(agent_id, now=wiring.clock(), task=None, session=None)
    return {
        "agent": agent_id,
        "role": agent.role,
        "enabled": rules.enabled(agent_id),
        "approval_threshold": "unlimited" if threshold is None else str(threshold),
        "limits": [_limit(one) for one in found],
        "providers": list(_providers(policy, agent.providers)),
        "categories": sorted(policy.categories.named),
        "default_category": policy.categories.default,
        "policy_hash": policy.hash,
    }


def _limit(one: Effective) -> Mapping[str, str]:
    return {
        "scope": str(one.limit.scope),
        "window": one.limit.window.value,
        "limit": str(one.limit.amount),
        "source": one.source,
    }


def _providers(policy: Policy, subset: list[str] | None) -> Iterator[Mapping[str, str | None]]:
    """List whom the agent may pay: all of the allowlist unless it has a list of its own."""
    names = policy.providers if subset is None else [policy.provider(text)[0] for text in subset]
    for name in names:
        if name is not None:
            provider = policy.providers[name]
            yield {"name": name, "address": provider.address, "service": provider.service}
