"""Ends of costs: posted by their owner, voided, closed with their session, or abandoned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, bindparam, literal_column, select, update

from coordinator.domain.errors import UnknownId
from coordinator.domain.notices import Notice, Severity
from coordinator.domain.observed import ended
from coordinator.domain.purchase.cost import Cost, CostRequest, CostStatus
from coordinator.domain.purchase.decision import Facts, judge_limits
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

_k, _h = t.costs.c, t.holds.c
FOUND: Final = (
    select(t.costs, _h.amount, _h.status, _h.posted, _h.charges, _h.by_owner)
    .join(t.holds, _h.cost_id == _k.id)
    .order_by(_k.seq)
)
_DUE: Final = FOUND.where(_h.status == "held", _k.expires_at <= bindparam("now_"))
ANY_DUE: Final = Prepared(
    select(literal_column("1"))
    .select_from(t.costs.join(t.holds, _h.cost_id == _k.id))
    .where(_h.status == literal_column("'held'"), _k.expires_at <= bindparam("now_"))
    .limit(literal_column("1"))
)
_END: Final = Prepared(
    update(t.holds)
    .where(_h.cost_id == bindparam("cost"))
    .values(
        status=bindparam("status_"),
        posted=bindparam("posted_"),
        ended_at=bindparam("ended_"),
        by_owner=bindparam("by_owner_"),
    )
)


def post(cost_id: str, actual: Usdc, now: int, tx: Tx) -> Cost:
    """Count ``actual`` if it changes what is counted; else return the cost as it is."""
    tx.flush()
    cost, charges = read_cost(tx.connection, cost_id)
    if not cost.counts(actual):
        return cost
    late = cost.status is not CostStatus.HELD
    more = actual - (cost.posted if late else cost.amount)
    if more > ZERO:
        limits, _ = judge_limits(cost.request.terms(tx.rules.policy), more, facts_of(tx, now))
        tx.notify_crossings(limits, more, now)
    if late:
        tx.notify([_posted_late(cost, actual, now)])
    return _finish(tx, cost, charges, CostStatus.POSTED, actual, now)


def void(cost_id: str, by_owner: bool, now: int, tx: Tx) -> Cost:
    """Give back what is held; a cost that has ended stays as it is."""
    tx.flush()
    cost, charges = read_cost(tx.connection, cost_id)
    if cost.status is not CostStatus.HELD:
        return cost
    return _finish(tx, cost, charges, CostStatus.VOIDED, ZERO, now, by_owner=by_owner)


def void_held(tx: Tx, condition: Any, now: int) -> Sequence[str]:
    """Void every held cost under the condition, in the caller's transaction; their ids."""
    rows = tx.connection.execute(FOUND.where(_h.status == "held", condition)).all()
    for row in rows:
        cost = cost_of(row)
        _finish(tx, cost, row.charges, CostStatus.VOIDED, ZERO, now, by_owner=False)
    return [row.id for row in rows]


def post_abandoned(now: int, tx: Tx) -> int:
    """Post in full every hold whose time is over, and have it told; return how many."""
    tx.flush()
    rows = tx.connection.execute(_DUE, {"now_": now}).all()
    for row in rows:
        cost = cost_of(row)
        _finish(tx, cost, row.charges, CostStatus.POSTED, cost.amount, now, by_owner=False)
    tx.notify(_abandoned(row, now) for row in rows)
    return len(rows)


def facts_of(tx: Tx, now: int) -> Facts:
    """Return what a cost is judged by: no balances, and nobody to ask."""
    return Facts(
        rules=tx.rules,
        now=now,
        minimum=ZERO,
        usage=tx.sheet.usage,
        paused=tx.treasury_state.paused,
        openings=tx.opening,
    )


def _finish(
    tx: Tx,
    cost: Cost,
    charges: str,
    status: CostStatus,
    actual: Usdc,
    now: int,
    *,
    by_owner: bool = True,
) -> Cost:
    """Count ``actual`` in place of what is held or was counted, in the counters charged."""
    held_now = cost.amount if cost.status is CostStatus.HELD else ZERO
    more = actual - cost.posted
    tx.sheet.change(json.loads(charges), held=-held_now.base_units, spent=more.base_units)
    values = {
        "cost": cost.id,
        "status_": status.value,
        "posted_": actual.base_units,
        "ended_": now,
        "by_owner_": int(by_owner),
    }
    _END.each(tx.connection, [values])
    tx.record(
        now,
        f"cost_{status}",
        cost.id,
        held=held_now.base_units,
        posted=actual.base_units,
        by_owner=by_owner,
    )
    agent = cost.request.agent
    tx.emit(ended("off_chain", held=held_now, spent=more, agent=agent, now=now, cost_id=cost.id))
    return replace(cost, status=status, posted=actual, by_owner=by_owner)


def _abandoned(row: Any, now: int) -> Notice:
    return Notice(
        key=f"abandoned:{row.id}",
        at=now,
        kind="cost_abandoned",
        severity=Severity.WARNING,
        subject=row.id,
        message=(
            f"{row.agent} held {Usdc.from_base_units(row.amount)} USDC and never posted or voided"
            " it: it counts in full"
        ),
    )


def _posted_late(cost: Cost, actual: Usdc, now: int) -> Notice:
    return Notice(
        key=f"posted_late:{cost.id}",
        at=now,
        kind="cost_posted_late",
        severity=Severity.WARNING,
        subject=cost.id,
        message=(
            f"{cost.request.agent} posted a cost after its hold had ended:"
            f" {actual} USDC now count instead of {cost.posted}"
        ),
    )


def find_cost(connection: Connection, cost_id: str) -> Cost | None:
    """Return the cost, if there is one of this id."""
    row = connection.execute(FOUND.where(_k.id == cost_id)).one_or_none()
    return cost_of(row) if row is not None else None


def read_cost(connection: Connection, cost_id: str) -> tuple[Cost, str]:
    """Return the cost and the ids of its counters as JSON; UnknownId when there is none."""
    row = connection.execute(FOUND.where(_k.id == cost_id)).one_or_none()
    if row is None:
        raise UnknownId(f"there is no cost {cost_id[:60]!r}")
    return cost_of(row), row.charges


def cost_of(row: Any) -> Cost:
    """Return the cost of a row of ``FOUND``."""
    asked = CostRequest(
        row.agent,
        Usdc.from_base_units(row.amount),
        row.category,
        row.provider,
        row.task,
        row.session,
        row.purpose,
    )
    return Cost(
        id=row.id,
        status=CostStatus(row.status),
        request=asked,
        category=row.category,
        posted=Usdc.from_base_units(row.posted),
        created_at=row.created_at,
        expires_at=row.expires_at,
        by_owner=bool(row.by_owner),
    )
