"""Costs without an escrow: held and posted in the same counters as purchases."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    select,
    update,
)

from coordinator.domain.cost import (
    Cost,
    CostDecision,
    CostRequest,
    CostStatus,
    cost_counters,
    judge_cost,
)
from coordinator.domain.decision import Facts, judge_limits
from coordinator.domain.errors import UnknownId
from coordinator.domain.limits import Usage
from coordinator.domain.notices import Notice, Severity, denied
from coordinator.domain.observed import ended, held, judged_cost
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger import schema as t
from coordinator.ledger.database import Database
from coordinator.ledger.desk import Batch, Desk
from coordinator.ledger.facts import read_facts
from coordinator.ledger.policies import PolicyBook
from coordinator.ledger.prepared import Prepared
from coordinator.ledger.reading import decision_row
from coordinator.ledger.requests import INSERT_HOLD

_k, _h = t.costs.c, t.holds.c
_COST: Final = Prepared(
    insert(t.costs),
    *("id", "agent", "category", "provider", "task", "session", "purpose"),
    *("created_at", "expires_at"),
)
_FOUND: Final = (
    select(t.costs, _h.amount, _h.status, _h.posted, _h.charges)
    .join(t.holds, _h.cost_id == _k.id)
    .order_by(_k.seq)
)
_DUE: Final = _FOUND.where(_h.status == "held", _k.expires_at <= bindparam("now_"))
_ANY_DUE: Final = Prepared(
    select(literal_column("1"))
    .select_from(t.costs.join(t.holds, _h.cost_id == _k.id))
    .where(_h.status == literal_column("'held'"), _k.expires_at <= bindparam("now_"))
    .limit(literal_column("1"))
)
_END: Final = Prepared(
    update(t.holds)
    .where(_h.cost_id == bindparam("cost"), _h.status == literal_column("'held'"))
    .values(status=bindparam("status_"), posted=bindparam("posted_"), ended_at=bindparam("ended_"))
)


class CostBook:
    """Holds, posts and voids costs; each is a piece of work at the desk."""

    def __init__(self, database: Database, policies: PolicyBook, desk: Desk) -> None:
        self._database = database
        self._policies = policies
        self._desk = desk

    def hold(self, request: CostRequest, *, lasts_seconds: int, now: int) -> Cost:
        """Reserve the amount until it is posted or voided, or refuse it with every reason."""
        return self._desk.run(partial(_hold, request, lasts_seconds, now))

    def record(self, request: CostRequest, *, now: int) -> Cost:
        """Post what was spent already; never refused, even beyond limits."""
        return self._desk.run(partial(_record, request, now))

    def post(self, cost_id: str, actual: Usdc, *, now: int) -> Cost:
        """Post ``actual`` in the counters that were charged; it may be above what was held.

        A cost that has ended stays as it is. UnknownId when there is none.
        """
        return self._desk.run(partial(_end, cost_id, CostStatus.POSTED, actual, now))

    def void(self, cost_id: str, *, now: int) -> Cost:
        """Give the held amount back. A cost that has ended stays as it is."""
        return self._desk.run(partial(_end, cost_id, CostStatus.VOIDED, ZERO, now))

    def post_abandoned(self, *, now: int) -> int:
        """Post in full every hold whose time is over, and have it told; how many there were."""
        with self._database.read() as connection:
            if _ANY_DUE.one(connection, {"now_": now}) is None:
                return 0
        return self._desk.run(partial(_post_abandoned, now))

    def check(self, request: CostRequest, *, now: int) -> CostDecision:
        """What ``hold`` would decide; nothing is written."""
        with self._database.read() as connection:
            rules = self._policies.rules(connection)
            decision = judge_cost(request, read_facts(connection, rules, ZERO, "", now))
        self._desk.emit(judged_cost("check", request, decision, now))
        return decision

    def get(self, cost_id: str) -> Cost:
        """The cost; UnknownId when there is none."""
        with self._database.read() as connection:
            return _read(connection, cost_id)[0]

    def list(
        self,
        *,
        agent: str | None = None,
        task: str | None = None,
        session: str | None = None,
        status: CostStatus | None = None,
        limit: int = 1000,
    ) -> Sequence[Cost]:
        """Costs that were not refused, newest first, at most ``limit``."""
        query = _FOUND.order_by(None).order_by(_k.seq.desc()).limit(limit)
        if status is not None:
            query = query.where(_h.status == status.value)
        for column, wanted in ((_k.agent, agent), (_k.task, task), (_k.session, session)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.read() as connection:
            return [_cost_of(row) for row in connection.execute(query)]

    def sums_by(self, column: str, *, since: int | None, until: int | None) -> Mapping[str, Usage]:
        """Held and spent by ``agent``, ``category`` or ``provider`` of costs of [since, until)."""
        name = func.coalesce(_k[column], literal_column("''"))
        query = _sums_of(since, until).add_columns(name).group_by(name)
        with self._database.read() as connection:
            return {found: _used(held, spent) for held, spent, found in connection.execute(query)}

    def sum(self, *, since: int | None, until: int | None) -> Usage:
        """Held and spent of all costs of [since, until)."""
        with self._database.read() as connection:
            return _used(*connection.execute(_sums_of(since, until)).one())


def _sums_of(since: int | None, until: int | None) -> Select[Any]:
    held = func.sum(case((_h.status == "held", _h.amount), else_=0))
    query = select(func.coalesce(held, 0), func.coalesce(func.sum(_h.posted), 0))
    query = query.select_from(t.costs.join(t.holds, _h.cost_id == _k.id))
    if since is not None:
        query = query.where(_k.created_at >= since)
    return query if until is None else query.where(_k.created_at < until)


def _used(held: Any, spent: Any) -> Usage:
    return Usage(int(held), int(spent))


def void_held(batch: Batch, condition: Any, now: int) -> Sequence[str]:
    """Void every held cost under the condition, in the caller's transaction; their ids."""
    rows = batch.connection.execute(_FOUND.where(_h.status == "held", condition)).all()
    for row in rows:
        _finish(batch, row.id, row.agent, row.charges, row.amount, CostStatus.VOIDED, ZERO, now)
    return [row.id for row in rows]


def _facts(batch: Batch, now: int) -> Facts:
    return Facts(
        rules=batch.rules,
        now=now,
        minimum=ZERO,
        usage=batch.sheet.usage,
        paused=batch.standing.paused,
        openings=batch.opening,
    )


def _hold(request: CostRequest, lasts_seconds: int, now: int, batch: Batch) -> Cost:
    decision = judge_cost(request, _facts(batch, now))
    status = CostStatus.DENIED if decision.reasons else CostStatus.HELD
    expires_at = now + lasts_seconds
    cost = _new(request, decision, status, now, expires_at)
    batch.happened(judged_cost("decision", request, decision, now, cost_id=cost.id))
    agent, amount = request.agent, request.amount
    if status is CostStatus.HELD:
        _insert(batch, cost, decision, held=amount, spent=ZERO)
        batch.happened(held("off_chain", amount=amount, agent=agent, now=now, cost_id=cost.id))
    else:
        batch.tell([denied(agent, request.provider, amount, decision.reasons[0], now)])
    _say(batch, now, f"cost_{status}", cost)
    return cost


def _record(request: CostRequest, now: int, batch: Batch) -> Cost:
    decision = cost_counters(request, _facts(batch, now))
    cost = _new(request, decision, CostStatus.POSTED, now, None)
    amount = request.amount
    _insert(batch, cost, decision, held=ZERO, spent=amount)
    agent = request.agent
    batch.happened(
        ended("off_chain", held=ZERO, spent=amount, agent=agent, now=now, cost_id=cost.id)
    )
    _say(batch, now, "cost_recorded", cost)
    return cost


def _say(batch: Batch, now: int, event: str, cost: Cost) -> None:
    asked = cost.request
    batch.say(
        now,
        event,
        cost.id,
        agent=asked.agent,
        amount=asked.amount.base_units,
        category=cost.category,
        provider=asked.provider,
        task=asked.task,
        session=asked.session,
        purpose=asked.purpose,
        expires_at=cost.expires_at,
        **decision_row(cost),
    )


def _new(
    request: CostRequest,
    decision: CostDecision,
    status: CostStatus,
    now: int,
    expires_at: int | None,
) -> Cost:
    return Cost(
        id=f"cst_{now:08x}{secrets.token_hex(6)}",
        status=status,
        request=replace(request, provider=decision.terms.provider),
        category=decision.terms.category,
        posted=request.amount if status is CostStatus.POSTED else ZERO,
        created_at=now,
        expires_at=expires_at,
        reasons=decision.reasons,
        limits=decision.limits,
    )


def _insert(batch: Batch, cost: Cost, decision: CostDecision, *, held: Usdc, spent: Usdc) -> None:
    asked, amount = cost.request, cost.request.amount
    charges = batch.sheet.charge(decision.counters, held=held.base_units, spent=spent.base_units)
    batch.insert(
        _COST,
        {
            "id": cost.id,
            "agent": asked.agent,
            "category": cost.category,
            "provider": asked.provider,
            "task": asked.task,
            "session": asked.session,
            "purpose": asked.purpose,
            "created_at": cost.created_at,
            "expires_at": cost.expires_at,
        },
    )
    batch.insert_dependent(
        INSERT_HOLD,
        {
            "kind": "off_chain",
            "purchase_id": None,
            "cost_id": cost.id,
            "amount": amount.base_units,
            "status": cost.status.value,
            "posted": spent.base_units,
            "placed_at": cost.created_at,
            "ended_at": cost.created_at if spent else None,
            "charges": json.dumps(charges),
        },
    )
    batch.tell_crossings(cost.limits, amount, cost.created_at)


def _end(cost_id: str, status: CostStatus, actual: Usdc, now: int, batch: Batch) -> Cost:
    batch.flush()
    cost, charges = _read(batch.connection, cost_id)
    if cost.status is not CostStatus.HELD:
        return cost
    more = actual - cost.amount
    if more > ZERO:
        limits, _ = judge_limits(cost.request.terms(batch.rules.policy), more, _facts(batch, now))
        batch.tell_crossings(limits, more, now)
    agent, amount = cost.request.agent, cost.amount.base_units
    _finish(batch, cost_id, agent, charges, amount, status, actual, now)
    return replace(cost, status=status, posted=actual)


def _finish(
    batch: Batch,
    cost_id: str,
    agent: str,
    charges: str,
    held: int,
    status: CostStatus,
    actual: Usdc,
    now: int,
) -> None:
    batch.sheet.change(json.loads(charges), held=-held, spent=actual.base_units)
    values = {
        "cost": cost_id,
        "status_": status.value,
        "posted_": actual.base_units,
        "ended_": now,
    }
    _END.each(batch.connection, [values])
    batch.say(now, f"cost_{status}", cost_id, held=held, posted=actual.base_units)
    amount = Usdc.from_base_units(held)
    batch.happened(
        ended("off_chain", held=amount, spent=actual, agent=agent, now=now, cost_id=cost_id)
    )


def _post_abandoned(now: int, batch: Batch) -> int:
    batch.flush()
    rows = batch.connection.execute(_DUE, {"now_": now}).all()
    for row in rows:
        amount = Usdc.from_base_units(row.amount)
        _finish(batch, row.id, row.agent, row.charges, row.amount, CostStatus.POSTED, amount, now)
    batch.tell(_abandoned(row, now) for row in rows)
    return len(rows)


def _abandoned(row: Any, now: int) -> Notice:
    return Notice(
        key=f"abandoned:{row.id}",
        at=now,
        kind="cost_abandoned",
        severity=Severity.WARNING,
        subject=row.id,
        message=(
            f"{row.agent} held {Usdc.from_base_units(row.amount)} USDC and never said what it came"
            " to: it is counted in full"
        ),
    )


def _read(connection: Connection, cost_id: str) -> tuple[Cost, str]:
    row = connection.execute(_FOUND.where(_k.id == cost_id)).one_or_none()
    if row is None:
        raise UnknownId(f"there is no cost {cost_id[:60]!r}")
    return _cost_of(row), row.charges


def _cost_of(row: Any) -> Cost:
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
    )
