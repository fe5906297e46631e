"""Costs without an escrow: held and posted in the same counters as purchases."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    Select,
    case,
    func,
    insert,
    literal_column,
    select,
)

from coordinator.domain.errors import IdempotencyConflict, InvalidRequest
from coordinator.domain.inputs import key_digest
from coordinator.domain.limits.limits import Usage
from coordinator.domain.limits.rules import SESSION, TASK
from coordinator.domain.notices import denied
from coordinator.domain.observed import ended, held, judged_cost
from coordinator.domain.purchase.cost import (
    Cost,
    CostDecision,
    CostRequest,
    CostStatus,
    cost_counters,
    judge_cost,
)
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.spend.cost_ends import (
    ANY_DUE,
    FOUND,
    cost_of,
    facts_of,
    find_cost,
    post,
    post_abandoned,
    read_cost,
    void,
)
from coordinator.ledger.spend.holds import place_hold
from coordinator.ledger.spend.reading import decision_row
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_k, _h = t.costs.c, t.holds.c
_COST: Final = Prepared(
    insert(t.costs),
    *("id", "agent", "category", "provider", "task", "session", "purpose"),
    *("created_at", "expires_at"),
)


class CostBook:
    """Holds, posts and voids costs; each is a piece of work of the group commit."""

    def __init__(self, transactions: Transactions, group_commit: GroupCommit) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._group_commit = group_commit

    def hold(
        self, request: CostRequest, *, lasts_seconds: int, key: str | None = None, now: int
    ) -> Cost:
        """Reserve the amount until it is posted or voided, or refuse it with every reason.

        With a ``key`` that the agent's cost of the same terms has, that cost as it is;
        IdempotencyConflict for other terms. A refusal binds no key.
        """
        return self._group_commit.run(partial(_hold, request, lasts_seconds, key, now))

    def record(
        self,
        request: CostRequest,
        *,
        key: str | None = None,
        within_limits: bool = False,
        now: int,
    ) -> Cost:
        """Post what was spent already, even beyond limits; ``key`` as of a hold.

        With ``within_limits`` it is refused as a hold would be. InvalidRequest for a task or
        session that was opened for another agent.
        """
        return self._group_commit.run(partial(_record, request, key, within_limits, now))

    def post(self, cost_id: str, actual: Usdc, *, now: int) -> Cost:
        """Post ``actual`` in the counters that were charged; it may be above what was held.

        One that its owner ended stays as it is. Where it ended without the owner, more than is
        counted counts all the same, and people are told. UnknownId when there is none.
        """
        return self._group_commit.run(partial(post, cost_id, actual, now))

    def void(self, cost_id: str, *, by_owner: bool = True, now: int) -> Cost:
        """Give the held amount back. A cost that has ended stays as it is.

        Without ``by_owner`` its owner may still post what was spent.
        """
        return self._group_commit.run(partial(void, cost_id, by_owner, now))

    def post_abandoned(self, *, now: int) -> int:
        """Post in full every hold whose time is over, and have it told; how many there were."""
        with self._database.read() as connection:
            if ANY_DUE.one(connection, {"now_": now}) is None:
                return 0
        return self._group_commit.run(partial(post_abandoned, now))

    def check(self, request: CostRequest, *, now: int) -> CostDecision:
        """Decide on a hold as a dry run; nothing is written."""
        with self._transactions.read() as tx:
            decision = judge_cost(request, facts_of(tx, now))
        self._transactions.tell([judged_cost("check", request, decision, now)])
        return decision

    def get(self, cost_id: str) -> Cost:
        """The cost; UnknownId when there is none."""
        with self._database.read() as connection:
            return read_cost(connection, cost_id)[0]

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
        query = FOUND.order_by(None).order_by(_k.seq.desc()).limit(limit)
        if status is not None:
            query = query.where(_h.status == status.value)
        for column, wanted in ((_k.agent, agent), (_k.task, task), (_k.session, session)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.read() as connection:
            return [cost_of(row) for row in connection.execute(query)]

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


def _hold(request: CostRequest, lasts_seconds: int, key: str | None, now: int, tx: Tx) -> Cost:
    bound = _bound(tx, request, key, recorded=False)
    if bound is not None:
        return bound
    decision = judge_cost(request, facts_of(tx, now))
    status = CostStatus.DENIED if decision.reasons else CostStatus.HELD
    expires_at = now + lasts_seconds
    cost = _new(request, decision, status, key, now, expires_at)
    tx.emit(judged_cost("decision", request, decision, now, cost_id=cost.id))
    agent, amount = request.agent, request.amount
    if status is CostStatus.HELD:
        _insert(tx, cost, decision, held=amount, spent=ZERO)
        tx.emit(held("off_chain", amount=amount, agent=agent, now=now, cost_id=cost.id))
    else:
        tx.notify([denied(agent, request.provider, amount, decision.reasons[0], now)])
    _say(tx, now, f"cost_{status}", cost)
    return cost


def _record(request: CostRequest, key: str | None, within_limits: bool, now: int, tx: Tx) -> Cost:
    amount = request.amount
    bound = _bound(tx, request, key, recorded=True)
    if bound is not None:
        return bound
    _refuse_others_runs(tx, request)
    facts = facts_of(tx, now)
    if within_limits and (judged := judge_cost(request, facts)).reasons:
        cost = _new(request, judged, CostStatus.DENIED, None, now, None)
        tx.notify([denied(request.agent, request.provider, amount, judged.reasons[0], now)])
        _say(tx, now, "cost_denied", cost)
        return cost
    decision = cost_counters(request, facts)
    cost = _new(request, decision, CostStatus.POSTED, key, now, None)
    _insert(tx, cost, decision, held=ZERO, spent=amount)
    agent = request.agent
    tx.emit(ended("off_chain", held=ZERO, spent=amount, agent=agent, now=now, cost_id=cost.id))
    _say(tx, now, "cost_recorded", cost)
    return cost


def _refuse_others_runs(tx: Tx, request: CostRequest) -> None:
    for kind, name in ((TASK, request.task), (SESSION, request.session)):
        opened = tx.opening(kind, name) if name is not None else None
        if opened is not None and opened.agent not in (None, request.agent):
            raise InvalidRequest(f"{kind} {name} belongs to another agent")


def _bound(tx: Tx, request: CostRequest, key: str | None, *, recorded: bool) -> Cost | None:
    """Return the cost that the agent's key is bound to; IdempotencyConflict for other terms."""
    if key is None:
        return None
    tx.flush()
    cost_id = "cst_" + key_digest(request.agent, key)
    found = find_cost(tx.connection, cost_id)
    if found is None:
        return None
    if not _same_terms(tx, request, found) or recorded is not (found.expires_at is None):
        raise IdempotencyConflict(
            f"key {key!r} belongs to cost {cost_id}, which has other terms;"
            " use another key for another cost"
        )
    return found


def _same_terms(tx: Tx, asked: CostRequest, found: Cost) -> bool:
    """Compare what was asked; what the policy filled in may be another today."""
    was = found.request
    terms = asked.terms(tx.rules.policy)
    return (
        (asked.amount, asked.task, asked.session) == (was.amount, was.task, was.session)
        and asked.category in (None, found.category)
        and was.provider in (asked.provider, terms.provider)
    )


def _say(tx: Tx, now: int, event: str, cost: Cost) -> None:
    asked = cost.request
    tx.record(
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
    key: str | None,
    now: int,
    expires_at: int | None,
) -> Cost:
    cost_id = f"cst_{now:08x}{secrets.token_hex(6)}"
    # A refused cost has no row, and its key may be asked with again.
    if key is not None and status is not CostStatus.DENIED:
        cost_id = "cst_" + key_digest(request.agent, key)
    return Cost(
        id=cost_id,
        status=status,
        request=replace(request, provider=decision.terms.provider),
        category=decision.terms.category,
        posted=request.amount if status is CostStatus.POSTED else ZERO,
        created_at=now,
        expires_at=expires_at,
        reasons=decision.reasons,
        limits=decision.limits,
    )


def _insert(tx: Tx, cost: Cost, decision: CostDecision, *, held: Usdc, spent: Usdc) -> None:
    charges = tx.sheet.charge_request(
        decision.counters, held=held.base_units, spent=spent.base_units
    )
    insert_cost(tx, cost, charges, ended_at=cost.created_at if spent else None)
    tx.notify_crossings(cost.limits, cost.amount, cost.created_at)


def insert_cost(tx: Tx, cost: Cost, charges: Sequence[int], *, ended_at: int | None) -> None:
    """Write a cost with its hold; ``charges`` are the ids of the counters that it is in."""
    asked = cost.request
    tx.insert(
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
    place_hold(
        tx,
        "off_chain",
        cost.amount,
        charges,
        cost_id=cost.id,
        placed_at=cost.created_at,
        status=cost.status.value,
        posted=cost.posted.base_units,
        ended_at=ended_at,
        by_owner=cost.by_owner,
    )
