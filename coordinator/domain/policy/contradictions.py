"""Find contradictions within a policy, each as a key path and one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.address import looks_like_address
from coordinator.domain.policy.approval_faults import approval_faults
from coordinator.domain.policy.chain_limits import chain_limit_faults
from coordinator.domain.policy.faults import Fault
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.policy.payees import not_payable
from coordinator.domain.policy.tables import Limits, Role
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window


def contradictions(policy: PolicyModel) -> list[Fault]:
    """Return every contradiction of a policy whose tables are each well-formed."""
    return [
        *(
            fault
            for name, role in policy.roles.items()
            for fault in _spender_faults(policy, ("roles", name), role)
        ),
        *_agent_faults(policy),
        *_pool_faults(policy),
        *_provider_faults(policy),
        *_category_faults(policy),
        *_run_faults(policy),
        *approval_faults(policy),
        *_float_faults(policy),
        *chain_limit_faults(policy),
        *_other_faults(policy),
    ]


def _agent_faults(policy: PolicyModel) -> Iterator[Fault]:
    for agent_id, stated in policy.agents.items():
        path = ("agents", agent_id)
        if stated.role is not None and stated.role not in policy.roles:
            yield (*path, "role"), f"there is no role {stated.role!r}"
            continue
        agent = policy.agent(agent_id)
        assert agent is not None
        if agent.per_purchase_limit is None:
            yield path, 'has no per_purchase_limit (it may say "unlimited")'
        if agent.daily_limit is None and agent.total_limit is None:
            yield path, 'has neither a daily_limit nor a total_limit (one may say "unlimited")'
        yield from _spender_faults(policy, path, agent)


def _spender_faults(policy: PolicyModel, path: tuple[str, ...], spender: Role) -> Iterator[Fault]:
    yield from _limit_faults(path, spender)
    for name in spender.providers or []:
        if policy.provider(name)[0] is None:
            yield (*path, "providers"), f"there is no provider {name!r}"
    for name, limits in spender.categories.items():
        if name not in policy.categories.named:
            yield (*path, "categories", name), f"there is no category {name!r}"
        yield from _limit_faults((*path, "categories", name), limits)


def _limit_faults(path: tuple[str, ...], limits: Limits) -> Iterator[Fault]:
    each = limits.per_purchase_limit
    if not isinstance(each, Usdc):
        return
    for window, whole in limits.amounts.items():
        if window is not Window.PER_PURCHASE and each > whole:
            key = f"{window}_limit"
            yield (*path, key), f"{whole} is below the per_purchase_limit, {each}"


def _pool_faults(policy: PolicyModel) -> Iterator[Fault]:
    for name, pool in policy.pools.items():
        path = ("pools", name)
        for agent_id in pool.agents:
            if agent_id not in policy.agents:
                yield (*path, "agents"), f"there is no agent {agent_id!r}"
        if len(set(pool.agents)) != len(pool.agents):
            yield (*path, "agents"), "names an agent twice"
        yield from _limit_faults(path, pool)
        for agent_id in pool.minimums:
            if agent_id not in pool.agents:
                yield (*path, "minimums", agent_id), "is not an agent of the pool"
        shared = pool.amounts.get(Window.DAILY, pool.amounts.get(Window.TOTAL))
        least = sum((amount for amount in pool.minimums.values()), start=ZERO)
        if shared is not None and least > shared:
            yield (*path, "minimums"), f"are {least} together, more than the pool's {shared}"
        plan = pool.rebalance
        if plan is not None and plan.priority_weight + plan.usage_weight != 100:
            yield (*path, "rebalance"), "priority_weight and usage_weight must add up to 100"
        if plan is not None and not pool.agents:
            yield (*path, "rebalance"), "the pool has no agents to share among"
        if (plan is not None or pool.minimums) and shared is None:
            yield path, "needs a daily_limit or a total_limit to share"


def _provider_faults(policy: PolicyModel) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for name, provider in policy.providers.items():
        if looks_like_address(name):
            yield ("providers", name), "a name must not look like an address"
        if (why := not_payable(provider.address, {})) is not None:
            yield ("providers", name, "address"), why
        other = seen.setdefault(provider.address, name)
        if other != name:
            yield ("providers", name, "address"), f"is also the address of {other!r}"
        yield from _limit_faults(("providers", name), provider)


def _category_faults(policy: PolicyModel) -> Iterator[Fault]:
    default = policy.categories.default
    if default is not None and default not in policy.categories.named:
        yield ("categories", "default"), f"there is no category {default!r}"
    for name, category in policy.categories.named.items():
        yield from _limit_faults(("categories", name), category)


def _run_faults(policy: PolicyModel) -> Iterator[Fault]:
    """Find the faults of tasks and sessions."""
    tasks, sessions = policy.tasks, policy.sessions
    listed = [] if tasks is None else [("default", tasks.default), *tasks.named.items()]
    for name, task in listed:
        if task is None:
            continue
        yield from _limit_faults(("tasks", name), task)
        for category, limits in task.categories.items():
            path = ("tasks", name, "categories", category)
            if category not in policy.categories.named:
                yield path, f"there is no category {category!r}"
            yield from _limit_faults(path, limits)
    if sessions is not None:
        for name, session in [("default", sessions.default), *sessions.named.items()]:
            if session is not None:
                yield from _limit_faults(("sessions", name), session)


def _float_faults(policy: PolicyModel) -> Iterator[Fault]:
    """Find why the wallet's float could not be filled as the policy says."""
    x402 = policy.x402
    if x402 is None:
        return
    below, to, daily = x402.top_up_below, x402.top_up_to, x402.top_up_daily_limit
    if below is not None and to is None:
        yield ("x402", "top_up_below"), "needs a top_up_to, which the float is filled up to"
    if to is not None and below is None:
        yield ("x402", "top_up_to"), "needs a top_up_below, the float at which it is filled"
    if below is not None and to is not None and to <= below:
        yield ("x402", "top_up_to"), f"must be above the top_up_below, {below}"
    if (below is not None or to is not None) and daily is None:
        key = "top_up_below" if below is not None else "top_up_to"
        yield ("x402", key), "needs a top_up_daily_limit: nothing is moved without a limit"


def _alert_faults(policy: PolicyModel) -> Iterator[Fault]:
    alerts = policy.alerts
    if len(set(alerts.thresholds)) != len(alerts.thresholds):
        yield ("alerts", "thresholds"), "names a percentage twice"


def _other_faults(policy: PolicyModel) -> Iterator[Fault]:
    yield from _limit_faults(("organisation",), policy.organisation)
    yield from _alert_faults(policy)
    if not 3600 <= policy.escrow.dispute_window <= 30 * 86400:
        yield ("escrow", "dispute_window"), "must be 1h to 30d"
    if not 600 <= policy.escrow.deadline_after <= 364 * 86400:
        yield ("escrow", "deadline_after"), "must be 10m to 364d"
    levels = policy.service_levels
    if levels is not None:
        if not levels.of:
            yield ("service_levels", "of"), "names no window"
        shares = [level.from_ for _, level in levels.levels()]
        if shares != sorted(shares, reverse=True) or len(set(shares)) != len(shares):
            yield ("service_levels",), "each level must begin below the one before"
        if shares[-1] != 0:
            yield ("service_levels", "emergency", "from"), "must be 0: it is the lowest level"
