"""Shares of a pool's money among its agents, kept as overlays of the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from sqlalchemy import select

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.allocation import Member, emergency
from coordinator.domain.limits.increase import Increase
from coordinator.domain.limits.limits import CounterKey, Limit, Scope, ScopeKind, Usage
from coordinator.domain.limits.rules import Rules
from coordinator.domain.notices import limits_changed
from coordinator.domain.policy.tables import Pool
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.limits.overlays import insert_overlay, overlay_body
from coordinator.ledger.limits.recount import recount
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.ledger.tx.transaction import Tx

PRIORITY: Final = 5


class AllocationBook:
    """Reads what a sharing is made from, and applies one."""

    def __init__(self, database: Database, policies: PolicyBook, group_commit: GroupCommit) -> None:
        self._database = database
        self._policies = policies
        self._group_commit = group_commit

    def members(self, pool_name: str, *, now: int) -> Sequence[Member]:
        """The pool's agents with priority, minimum, and what each used in its usage window."""
        with self._database.read() as connection:
            rules = self._policies.rules(connection)
            pool = pool_of(rules, pool_name)
            window = pool.rebalance.usage_window if pool.rebalance else 7 * 86400
            c = t.counters.c
            hours = select(c.scope_id, c.held, c.spent).where(
                c.scope_kind == ScopeKind.AGENT.value,
                c.scope_id.in_(pool.agents),
                c.window == Window.HOURLY.value,
                c.start > now - window,
            )
            used: dict[str, int] = {}
            for agent, held, spent in connection.execute(hours):
                used[agent] = used.get(agent, 0) + held + spent
        return [_member(rules, pool, agent, used.get(agent, 0)) for agent in pool.agents]

    def shares(self, pool_name: str) -> Mapping[str, Usdc]:
        """Return the allocation of each agent of the pool, without grants for a time."""
        rules = self._policies.current_rules()
        window = shared(pool_of(rules, pool_name))[0]
        return {
            agent: amounts[window]
            for agent in pool_of(rules, pool_name).agents
            if window in (amounts := rules.overlays.allocations.get(pair(pool_name, agent), {}))
        }

    def shared_at(self, pool_name: str) -> int | None:
        """Return when the pool was last shared out, in unix seconds; None for never."""
        o = t.overlays.c
        query = select(o.starts_at).where(
            o.kind == "allocation", o.scope_id.startswith(f"{pool_name}/", autoescape=True)
        )
        with self._database.read() as connection:
            return connection.execute(query.order_by(o.seq.desc()).limit(1)).scalar()

    def apply(
        self, pool_name: str, shares: Mapping[str, Usdc], *, by: str, reason: str, now: int
    ) -> None:
        """Lay the shares over the policy, all in one transaction with one audit row.

        InvalidRequest unless they are those of the pool's agents and sum to what it shares.
        """
        self._group_commit.run(partial(_apply, pool_name, shares, by, reason, now))


def pair(pool_name: str, agent: str) -> Scope:
    return Scope.pair(ScopeKind.POOL_AGENT, pool_name, agent)


def pool_of(rules: Rules, name: str) -> Pool:
    """The pool; InvalidRequest when the policy has none of that name."""
    pool = rules.policy.pools.get(name)
    if pool is None:
        raise InvalidRequest(f"{name[:60]!r} is not a pool of the policy")
    return pool


def shared(pool: Pool) -> tuple[Window, Usdc]:
    """The limit that a pool shares out: the daily or the total; InvalidRequest with neither."""
    for window in (Window.DAILY, Window.TOTAL):
        if (amount := pool.amounts.get(window)) is not None:
            return window, amount
    raise InvalidRequest("a pool needs a daily_limit or a total_limit to be shared")


def move_in_pool(tx: Tx, increase: Increase, *, author: str, now: int, ends_at: int) -> Usdc:
    """Take up to the increase's amount from the pool's other agents until it ends; how much.

    What they hold and have spent stays theirs, and so does what the policy guarantees them. They
    give nothing that they themselves lose before it ends.
    """
    rules = tx.rules
    pool_name = increase.scope.id.rpartition("/")[0]
    pool = pool_of(rules, pool_name)
    keys = {
        agent: CounterKey(
            pair(pool_name, agent),
            increase.window,
            rules.calendar.counts_from(increase.window, now),
        )
        for agent in pool.agents
    }
    usage = tx.sheet.usage(keys.values())
    floor = {agent: _sum(usage.get(key, Usage())) for agent, key in keys.items()}
    allocations = {
        agent: _allocated(rules, pair(pool_name, agent), increase.window, now, ends_at)
        for agent in keys
    }
    members = [_member(rules, pool, agent, 0) for agent in pool.agents]
    moved = emergency(
        allocations, members, agent=increase.agent, amount=increase.amount, floor=floor
    )
    for agent, amount in moved.allocations.items():
        if amount < allocations[agent]:
            less = amount - allocations[agent]
            scope = pair(pool_name, agent)
            reason = f"moved to {increase.agent}: {increase.why}"
            overlay_id = insert_overlay(
                tx.connection,
                "grant",
                scope=scope,
                window=increase.window,
                amount=less,
                author=author,
                reason=reason,
                starts_at=now,
                ends_at=ends_at,
                increase_id=increase.id,
            )
            said = overlay_body(scope, increase.window, less)
            tx.record(
                now,
                "limit_granted",
                overlay_id,
                by=author,
                of=increase.id,
                reason=reason,
                ends_at=ends_at,
                **said,
            )
    return moved.moved


def _apply(
    pool_name: str, shares: Mapping[str, Usdc], by: str, reason: str, now: int, tx: Tx
) -> None:
    before = tx.rules
    pool = pool_of(before, pool_name)
    window, amount = shared(pool)
    if set(shares) != set(pool.agents):
        raise InvalidRequest(f"the shares must be those of {', '.join(pool.agents)}")
    if sum(shares.values(), start=ZERO) != amount:
        raise InvalidRequest(f"the shares must sum to what the pool shares, {amount} USDC")
    tx.flush()
    ids = {
        agent: insert_overlay(
            tx.connection,
            "allocation",
            scope=pair(pool_name, agent),
            window=window,
            amount=share,
            author=by,
            reason=reason,
            starts_at=now,
        )
        for agent, share in shares.items()
    }
    tx.reread_rules()
    recount(tx.connection, before, tx.rules, now)
    tx.forget()
    said = {agent: share.base_units for agent, share in shares.items()}
    text = f"{by} shared pool {pool_name} among its agents: {reason}"
    tx.notify([limits_changed(f"shared:{pool_name}:{now}", f"pool:{pool_name}", text, now)])
    tx.record(
        now,
        "pool_shared",
        pool_name,
        by=by,
        reason=reason,
        window=window.value,
        shares=said,
        ids=ids,
    )


def _member(rules: Rules, pool: Pool, agent_id: str, used: int) -> Member:
    agent = rules.policy.agent(agent_id)
    priority = agent.priority if agent is not None else None
    return Member(
        agent_id,
        priority or PRIORITY,
        pool.minimums.get(agent_id, ZERO),
        Usdc.from_base_units(max(0, used)),
    )


def _allocated(rules: Rules, scope: Scope, window: Window, since: int, until: int) -> Usdc:
    own = rules.overlays.allocations.get(scope, {}).get(window, ZERO)
    return max(ZERO, rules.least_amount(Limit(scope, window, own), since, until))


def _sum(usage: Usage) -> Usdc:
    return usage.held + usage.spent
