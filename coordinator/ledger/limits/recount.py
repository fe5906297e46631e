"""Fill the counters that a change of rules adds from what is held and spent already."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, exists, func, select, update

from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind
from coordinator.domain.limits.rules import Openings, Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import Limits
from coordinator.domain.purchase.lifecycle import X402
from coordinator.domain.windows import Window
from coordinator.ledger.limits.counters import CounterSheet
from coordinator.ledger.limits.openings import opened_windows, read_opening
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

_h, _p, _k = t.holds.c, t.purchases.c, t.costs.c
_PAGE: Final = 1000
_SET_CHARGES: Final = Prepared(
    update(t.holds).where(_h.id == bindparam("hold_")).values(charges=bindparam("charges_"))
)


def recount(connection: Connection, before: Rules, after: Rules, now: int) -> None:
    """Charge holds to the counters of the present that only ``after`` has; none is taken out.

    A new member brings what it spent into its pool, and an address what it was paid under another
    name: of the windows of the present, and of ever.
    """
    old, new = set(_counted(before)), set(_counted(after))
    joined = {said[-1] for said in new - old if said[0] == "member"}
    if joined:
        charge_missing(
            connection, after, now, holds_with_terms().where(_agent().in_(sorted(joined)))
        )
    named = [said[1:] for said in new - old if said[0] == "provider"]
    if named and (paid := _paid_by_another_name(connection, named)):
        charge_missing(connection, after, now, holds_with_terms().where(_payee().in_(paid)))
    limited = any(said[0] == "limit" for said in new - old)
    # A task without limits of its own any more has the default's.
    renamed = any(said[0] == "named" for said in new ^ old)
    if limited or renamed or before.policy.zone.key != after.policy.zone.key:
        windows = _windows(after) | opened_windows(connection)
        since = min(
            after.calendar.counts_from(window, now)
            for window in windows - {Window.PER_PURCHASE, Window.TOTAL}
        )
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
    terms = terms_of(row, rules.policy)
    parts = rules.parts(terms, openings)
    limited = {(limit.scope, limit.window) for part in parts for limit in part.limits}
    for key in rules.charged(terms, row.placed_at, openings, asked=bool(row.asked)):
        # Hours that only reports add up are there already, in the zone of their time.
        if key.window is Window.HOURLY and key[:2] not in limited:
            continue
        if key.start >= rules.calendar.counts_from(key.window, now):
            yield key


def terms_of(row: Any, policy: Policy) -> Terms:
    """Return what of a row of ``holds_with_terms`` decides whose limits it touches.

    A provider goes by the name that the policy gives its address, or else by its name of then.
    """
    if row.kind == "bond":
        return Terms()
    provider = policy.provider(row.payee)[0] if row.payee is not None else None
    name, x402 = provider or row.provider, row.settle == X402
    return Terms(row.agent, row.category, name, row.task, row.session, x402)


def holds_with_terms() -> Select[Any]:
    """Select holds with their terms, a purchase's or a cost's, in the order of their ids.

    ``asked`` says whether people were asked about it; ``payee`` is a purchase's address, or what a
    cost calls its provider.
    """
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
            func.coalesce(_p.provider, _k.provider).label("payee"),
            _p.settle,
            t.approvals.c.id.is_not(None).label("asked"),
        )
        .select_from(t.holds)
        .outerjoin(t.purchases, _p.id == _h.purchase_id)
        .outerjoin(t.costs, _k.id == _h.cost_id)
        .outerjoin(t.approvals, t.approvals.c.purchase_id == _h.purchase_id)
        .order_by(_h.id)
    )


def _agent() -> Any:
    return func.coalesce(_p.agent, _k.agent)


def _payee() -> Any:
    return func.lower(func.coalesce(_p.provider, _k.provider))


def _paid_by_another_name(
    connection: Connection, named: Iterable[tuple[str, ...]]
) -> Sequence[str]:
    """Return those payees, in lower case, that were paid under another name than theirs in pairs
    of name and address.
    """
    found: set[str] = set()
    for name, address in named:
        bought = exists().where(func.lower(_p.provider) == address, _p.provider_name != name)
        spent = exists().where(func.lower(_k.provider) == address)
        if connection.execute(select(bought | spent)).scalar():
            found.add(address)
    return sorted(found)


def _counted(rules: Rules) -> Iterable[tuple[str, ...]]:
    """Yield what decides which counters exist.

    Limited windows, members of shared money, and the names of addresses.
    """
    policy = rules.policy
    for where, limits in _limited(policy):
        for window in limits.amounts:
            yield "limit", *where, window
    for agent_id in policy.agents:
        for key in rules.auto_approved(agent_id, 0):
            yield "limit", key.scope.kind, agent_id, key.window
    for name, provider in policy.providers.items():
        yield "provider", name, provider.address.lower()
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


def _windows(rules: Rules) -> set[Window]:
    """Return every window over which the policy or a share of a pool limits something."""
    limited = {Window(said[-1]) for said in _counted(rules) if said[0] == "limit"}
    shared = {window for amounts in rules.overlays.allocations.values() for window in amounts}
    return {Window.HOURLY} | limited | shared
