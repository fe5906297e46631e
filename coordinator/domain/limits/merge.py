"""Merge a policy with its overlays into one policy."""

from __future__ import annotations

from typing import Any

from coordinator.domain.limits.limits import Scope, ScopeKind
from coordinator.domain.limits.rules import Grant, Overlays
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import Limits


def merged(policy: Policy, overlays: Overlays, now: int) -> tuple[Policy, frozenset[str]]:
    """Write disabled agents and grants without an end into the policy; returns those grants' ids.

    Not in it are grants that end, what no key of the file can say (allocations, grants to single
    tasks, sessions and pairs), and what would make the policy contradict itself.
    """
    document = policy.document()
    for agent_id in overlays.disabled & set(policy.agents):
        document["agents"][agent_id]["enabled"] = False
    whole, written = Policy.from_dict(document), set()
    for grant in overlays.grants:
        lasting = grant.ends_at is None and grant.holds(now)
        if lasting and (raised := _raised(whole, grant)) is not None:
            whole = raised
            written.add(grant.id)
    return whole, frozenset(written)


def _raised(policy: Policy, grant: Grant) -> Policy | None:
    """Add the grant to the limit that it raises; None if the policy can't say so."""
    path, limits = _place(policy, grant.scope)
    amount = limits.amounts.get(grant.window) if limits is not None else None
    if amount is None:
        return None
    document = policy.document()
    table: dict[str, Any] = document
    for key in path:
        table = table[key]
    table[f"{grant.window}_limit"] = str(amount + grant.amount)
    return Policy.examine(document)[0]


def _place(policy: Policy, scope: Scope) -> tuple[tuple[str, ...], Limits | None]:
    """Find the table with the scope's limits; an agent's includes its role's."""
    kind, name = scope
    match kind:
        case ScopeKind.ORGANISATION:
            return ("organisation",), policy.organisation
        case ScopeKind.AGENT:
            return ("agents", name), policy.agent(name)
        case ScopeKind.POOL:
            return ("pools", name), policy.pools.get(name)
        case ScopeKind.CATEGORY:
            return ("categories", name), policy.categories.named.get(name)
        case ScopeKind.PROVIDER:
            return ("providers", name), policy.providers.get(name)
        case _:
            return (), None
