"""Compare counters with the holds that they are sums of."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, case, func, select

from coordinator.ledger.store import schema as t


def counter_faults(connection: Connection) -> Iterator[str]:
    """Name counters that are not the sum of their holds, and holds that count nowhere."""
    c, h, k = t.hold_charges.c, t.holds.c, t.counters.c
    key = (c.scope_kind, c.scope_id, c.window, c.start)
    sums = (
        select(
            *key,
            func.sum(case((h.status == "held", h.amount), else_=0)).label("held"),
            func.sum(h.posted).label("spent"),
        )
        .join(t.holds, h.id == c.hold_id)
        .group_by(*key)
        .subquery()
    )
    same = (
        (k.scope_kind == sums.c.scope_kind)
        & (k.scope_id == sums.c.scope_id)
        & (k.window == sums.c.window)
        & (k.start == sums.c.start)
    )
    held, spent = func.coalesce(sums.c.held, 0), func.coalesce(sums.c.spent, 0)
    query = (
        select(t.counters, held.label("sum_held"), spent.label("sum_spent"))
        .outerjoin(sums, same)
        .where((k.held != held) | (k.spent != spent))
    )
    for row in connection.execute(query):
        yield (
            f"counter {row.scope_kind}:{row.scope_id} {row.window}: it says {row.held} held and"
            f" {row.spent} spent; its holds say {row.sum_held} and {row.sum_spent}"
        )
    # Whatever is held or spent counts in the organisation's total, whatever the policy says.
    counted = select(c.hold_id).where(c.scope_kind == "organisation", c.window == "total")
    alone = select(h.id, h.purchase_id, h.cost_id).where(h.id.not_in(counted))
    for row in connection.execute(alone):
        yield f"hold of {row.purchase_id or row.cost_id}: it counts in no total of the organisation"
