"""Counters that a change of the rules adds: filled from what is held and spent already."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select, update

from coordinator.domain.limits import CounterKey, Scope, ScopeKind
from coordinator.domain.policy import Policy
from coordinator.domain.policy_tables import Limits
from coordinator.domain.rules import Openings, Rules, Terms
from coordinator.domain.windows import Window
from coordinator.ledger import schema as t
from coordinator.ledger.counters import CounterSheet
from coordinator.ledger.openings import read_opening
from coordinator.ledger.prepared import Prepared

_h, _p, _k = t.holds.c, t.purchases.c, t.costs.c
_PAGE: Final = 1000
_SET_CHARGES: Final = Prepared(
    update(t.holds).where(_h.id == bindparam("hold_")).values(charges=bindparam("charges_"))
)


def recount(connection: Connection, before: Rules, after: Rules, now: int) -> None:
    """Charge holds to the counters of the present that only ``after`` has; none is taken out.

    A new member brings what it spent into its pool: of the windows of the present, and of ever.
    """
    old, new = set(_counted(before)), set(_counted(after))
    joined = {said[-1] for said in new - old if said[0] == "member"}
    if joined:
        charge_missing(
            connection, after, now, holds_with_terms().where(_agent().in_(sorted(joined)))
        )
    limited = any(said[0] == "limit" for said in new - old)
    # A task without limits of its own any more has the default's.
    renamed = any(said[0] == "named" for said in new ^ old)
    if limited or renamed or before.policy.zone.key != after.policy.zone.key:
        since = min(after.calendar.counts_from(window, now) for window in _windows(after.policy))
        charge_missing(connection, after, now, holds_with_terms().where(_h.placed_at >= since))


def recount_run(connection: Connection, rules: Rules, kind: str, name: str, now: int) -> None:
    """Charge what a task or session spent before it was opened to the counters of its limits."""
    bought, cost = (_p.task, _k.task) if kind == "task" else (_p.session, _k.session)
    spent = select(t.counters.c.id).where(
        t.counters.c.scope_kind == kind, t.counters.c.scope_id == name
    )
    if connection.execute(spent.limit(1)).first() is None:
        return
    for column in (bought, cost):
        charge_missing(connection, rules, now, holds_with_terms().where(column == name))


def charge_missing(connection: Connection, rules: Rules, now: int, holds: Select[Any]) -> None:
    """Charge each of the holds to every counter of the present that it should be in and is not."""
    openings = cache(partial(read_opening, connection))
    sheet = CounterSheet(connection)
    last = 0
    while rows := connection.execute(holds.where(_h.id > last).limit(_PAGE)).all():
        last = rows[-1].hold_id
        present = _charged(connection, [row.hold_id for row in rows])
        changed = []
        for row in rows:
            missing = sorted(set(_wanted(row, rules, now, openings)) - present[row.hold_id])
            if missing:
                held = row.amount if row.status == "held" else 0
                added = sheet.charge(missing, held=held, spent=row.posted)
                charges = json.dumps(json.loads(row.charges) + added)
                changed.append({"hold_": row.hold_id, "charges_": charges})
        _SET_CHARGES.each(connection, changed)
    sheet.flush()


def _charged(connection: Connection, hold_ids: list[int]) -> Mapping[int, set[CounterKey]]:
    c = t.hold_charges.c
    found = defaultdict(set)
    for r in connection.execute(select(t.hold_charges).where(c.hold_id.in_(hold_ids))):
        scope = Scope(ScopeKind(r.scope_kind), r.scope_id)
        found[r.hold_id].add(CounterKey(scope, Window(r.window), r.start))
    return found


def _wanted(row: Any, rules: Rules, now: int, openings: Openings) -> Iterator[CounterKey]:
    terms = Terms()
    if row.kind != "bond":
        terms = Terms(row.agent, row.category, row.provider, row.task, row.session)
    calendar = rules.calendar
    touched = rules.touched(terms, row.placed_at, openings)
    limited = {(limit.scope, limit.window) for limit in touched.limits}
    for scope, window in touched.windows:
        # Hours that only reports add up are there already, in the zone of their time.
        if window is Window.HOURLY and (scope, window) not in limited:
            continue
        start = calendar.bounds(window, row.placed_at)[0]
        if start >= calendar.counts_from(window, now):
            yield CounterKey(scope, window, start)


def holds_with_terms() -> Select[Any]:
    """Holds with their terms: a purchase's or a cost's."""
    return (
        select(
            _h.id.label("hold_id"),
            _h.kind,
            _h.placed_at,
            _h.amount,
            _h.status,
            _h.posted,
            _h.charges,
            _agent().label("agent"),
            func.coalesce(_p.category, _k.category).label("category"),
            func.coalesce(_p.provider_name, _k.provider).label("provider"),
            func.coalesce(_p.task, _k.task).label("task"),
            func.coalesce(_p.session, _k.session).label("session"),
        )
        .select_from(t.holds)
        .outerjoin(t.purchases, _p.id == _h.purchase_id)
        .outerjoin(t.costs, _k.id == _h.cost_id)
        .order_by(_h.id)
    )


def _agent() -> Any:
    return func.coalesce(_p.agent, _k.agent)


def _counted(rules: Rules) -> Iterable[tuple[str, ...]]:
    """What decides which counters exist: limited windows, and members of shared money."""
    policy = rules.policy
    for where, limits in _limited(policy):
        for window in limits.amounts:
            yield "limit", *where, window
    for table in (policy.tasks, policy.sessions):
        for name in table.named if table is not None else ():
            yield "named", type(table).__name__, name
    for name, pool in policy.pools.items():
        for agent_id in pool.agents:
            yield "member", name, agent_id
    for pair, amounts in rules.overlays.allocations.items():
        for window in amounts:
            yield "member", pair.id, window, pair.id.rpartition("/")[2]


def _limited(policy: Policy) -> Iterator[tuple[tuple[str, ...], Limits]]:
    """Everything that has limits, by the scope or table that it stands in; agents with roles."""
    yield ("organisation",), policy.organisation
    for agent_id in policy.agents:
        agent = policy.agent(agent_id)
        assert agent is not None
        yield ("agents", agent_id), agent
        for category, limits in agent.categories.items():
            yield ("agents", agent_id, category), limits
    shared: Mapping[str, Mapping[str, Limits]] = {
        "pools": policy.pools,
        "providers": policy.providers,
        "categories": policy.categories.named,
    }
    for kind, tables in shared.items():
        for name, limits in tables.items():
            yield (kind, name), limits
    if policy.tasks is not None:
        for name, task in {"": policy.tasks.default, **policy.tasks.named}.items():
            if task is not None:
                yield ("tasks", name), task
                for category, limits in task.categories.items():
                    yield ("tasks", name, category), limits
    if policy.sessions is not None:
        for name, session in {"": policy.sessions.default, **policy.sessions.named}.items():
            if session is not None:
                yield ("sessions", name), session


def _windows(policy: Policy) -> set[Window]:
    """Every window that counts somewhere and ends."""
    limited = {window for _, limits in _limited(policy) for window in limits.amounts}
    return {Window.HOURLY, *limited} - {Window.PER_PURCHASE, Window.TOTAL}
