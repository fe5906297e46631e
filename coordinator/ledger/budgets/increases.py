"""Requests for more than a limit gives, and the decisions on them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.inputs import key_digest
from coordinator.domain.limits.increase import (
    EMERGENCY,
    Increase,
    IncreaseStatus,
    check_requested,
    judged,
    may_decide,
    raised,
)
from coordinator.domain.limits.limits import Scope
from coordinator.domain.purchase.decision import too_many_waiting
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.statements.making import increase_statement
from coordinator.domain.statements.signed import SigningRequest
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.budgets.allocations import move_in_pool
from coordinator.ledger.budgets.increase_rows import get_increase, granted, read_increases, waits
from coordinator.ledger.limits.overlays import insert_overlay, overlay_body
from coordinator.ledger.proofs.agreement import increase_agreement
from coordinator.ledger.spend.moves import expire
from coordinator.ledger.spend.words import UNSIGNED, Word, refuse_word, signing_request
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.facts import count_waiting
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.transaction import Tx

_i = t.increases.c

# Of a list.
_LISTED_MAX: Final = 1_000


class IncreaseBook:
    """Asks, decides and lists; granted ones are overlays until they end."""

    def __init__(self, database: Database, group_commit: GroupCommit) -> None:
        self._database = database
        self._group_commit = group_commit

    def ask(
        self,
        *,
        kind: str,
        agent: str,
        scope: Scope,
        window: Window,
        amount: Usdc,
        lasts_seconds: int,
        why: str,
        key: str | None = None,
        now: int,
    ) -> Increase:
        """Granted at once where the policy says so, else refused or waiting for people.

        InvalidRequest when the scope is not the agent's or has no such limit: nothing is written.
        With a ``key`` that the agent's request of the same terms has, that request as it is;
        IdempotencyConflict for other terms.
        """
        bound = "inc_" + key_digest(agent, key) if key is not None else None
        asked = Increase(
            id=bound or _new_id(),
            kind=kind,
            agent=agent,
            scope=scope,
            window=window,
            amount=amount,
            lasts_seconds=lasts_seconds,
            why=why,
            status=IncreaseStatus.WAITING,
            required=0,
            created_at=now,
            expires_at=now,
        )
        return self._group_commit.run(partial(_ask, asked, now, key))

    def approve(
        self, increase_id: str, *, approver: str, now: int, word: Word = UNSIGNED
    ) -> Increase:
        """Count the approver's yes, if it is within the policy still; the last needed grants it.

        ``reason`` of the answer says why nothing changed, if nothing did. InvalidRequest when
        there is no such limit of the agent's any more.
        """
        return self._group_commit.run(partial(_approve, increase_id, approver, now, word))

    def reject(
        self, increase_id: str, *, approver: str, reason: str, now: int, word: Word = UNSIGNED
    ) -> Increase:
        """Refuse it in the approver's name."""
        return self._group_commit.run(partial(_reject, increase_id, approver, reason, now, word))

    def statement(self, increase_id: str, reason: str | None) -> SigningRequest:
        """Return what an approver of it signs; with a ``reason`` it is rejected."""
        return self._group_commit.read(partial(self.request, increase_id, reason))

    @staticmethod
    def request(increase_id: str, reason: str | None, tx: Tx) -> SigningRequest:
        """Return the same in the caller's transaction."""
        increase = get_increase(tx.connection, increase_id)
        return signing_request(tx, increase_statement(tx.policy, increase, reason=reason))

    def get(self, increase_id: str) -> Increase:
        """The request; UnknownId when there is none."""
        with self._database.read() as connection:
            return get_increase(connection, increase_id)

    def list(
        self, *, waiting_at: int | None = None, agent: str | None = None
    ) -> Sequence[Increase]:
        """Every request, oldest first; with ``waiting_at`` those that wait at that instant.

        At most the 1,000 newest, all or an agent's.
        """
        query = select(t.increases).order_by(_i.seq.desc()).limit(_LISTED_MAX)
        if agent is not None:
            query = query.where(_i.agent == agent)
        if waiting_at is not None:
            query = query.where(_i.status == "waiting", _i.expires_at > waiting_at)
        with self._database.read() as connection:
            return read_increases(connection, connection.execute(query).all()[::-1])

    def expire_due(self, *, now: int) -> None:
        """Expire what nobody decided in time: at ``expires_at`` it is over."""
        with self._database.read() as connection:
            due = connection.execute(_overdue(now).limit(1)).first()
        if due is not None:
            self._group_commit.run(partial(_expire, now))


def _new_id() -> str:
    return "inc_" + secrets.token_hex(10)


def _count_waiting(tx: Tx, agent: str, now: int) -> int:
    """Count what waits of the agent, after what nobody decided in time has ended."""
    expire(tx, now)
    tx.flush()
    return count_waiting(tx.connection, agent, now=now)


def _bound(tx: Tx, asked: Increase, key: str) -> Increase | None:
    """Return the request that the agent's key is bound to; IdempotencyConflict for other terms."""
    tx.flush()
    row = tx.connection.execute(select(t.increases).where(_i.id == asked.id)).one_or_none()
    if row is None:
        if tx.proven(asked.id, newest=1):
            raise IdempotencyConflict(
                f"key {key!r} belongs to a request of a database that was rebuilt since;"
                " what it granted is in force until its end: use another key to ask for more"
            )
        return None
    found = read_increases(tx.connection, [row])[0]
    names = ("kind", "scope", "window", "lasts_seconds")
    # What was granted may be less than what was asked, which the row keeps.
    same = row.amount == asked.amount.base_units
    if not same or any(getattr(found, name) != getattr(asked, name) for name in names):
        raise IdempotencyConflict(
            f"key {key!r} belongs to request {found.id}, which has other terms;"
            " use another key for another request"
        )
    return found


def _ask(asked: Increase, now: int, key: str | None, tx: Tx) -> Increase:
    if key is not None and (bound := _bound(tx, asked, key)) is not None:
        return bound
    rules = tx.rules
    check_requested(asked.kind, asked.agent, asked.scope, asked.window, rules, tx.opening, now)
    running = raised(rules, asked.scope, asked.window, now)
    status, reason = judged(asked.agent, asked.kind, asked.scope, asked.amount, running, rules)
    approvals = rules.policy.approvals
    if status is IncreaseStatus.WAITING:
        tx.flush()
        most = approvals.waiting_max
        if _count_waiting(tx, asked.agent, now) >= most:
            status, reason = IncreaseStatus.REJECTED, too_many_waiting(asked.agent, most)
    if key is not None and status is IncreaseStatus.REJECTED:
        # As a denied purchase, it binds no key: it may be asked again.
        asked = replace(asked, id=_new_id())
    asked = replace(
        asked,
        status=status,
        reason=reason,
        required=approvals.required_for(asked.amount),
        expires_at=now + approvals.expires_after,
    )
    tx.flush()
    tx.connection.execute(
        insert(t.increases).values(
            id=asked.id,
            kind=asked.kind,
            agent=asked.agent,
            scope_kind=asked.scope.kind.value,
            scope_id=asked.scope.id,
            window=asked.window.value,
            amount=asked.amount.base_units,
            lasts_seconds=asked.lasts_seconds,
            reason=asked.why,
            status=status.value,
            required=asked.required,
            created_at=now,
            expires_at=asked.expires_at,
        )
    )
    tx.record(
        now,
        f"increase_{'asked' if asked.waits else status}",
        asked.id,
        kind=asked.kind,
        agent=asked.agent,
        why=asked.why,
        lasts_seconds=asked.lasts_seconds,
        code=reason.code.value if reason else None,
        **overlay_body(asked.scope, asked.window, asked.amount),
    )
    if asked.granted:
        return _grant(tx, asked, "policy", now)
    if asked.waits:
        tx.notify([waits(asked)])
    return asked


def _approve(increase_id: str, approver: str, now: int, word: Word, tx: Tx) -> Increase:
    tx.flush()
    _expire(now, tx)
    increase = get_increase(tx.connection, increase_id)
    policy = tx.rules.policy
    refusal = (
        may_decide(policy, increase, approver)
        or refuse_word(tx, increase_statement(policy, increase), approver, word)
        or _refused_by_now(tx, increase, now)
    )
    if refusal is not None:
        return replace(increase, reason=refusal)
    _decide(tx, increase, approver, "approved", None, now, word)
    agreed = increase_agreement(policy, increase, _proved_words(tx, increase.id), tx.trust)
    increase = replace(increase, approved_by=tuple(sorted(agreed.names)))
    if not agreed.met:
        return increase
    return _grant(tx, increase, approver, now)


def _proved_words(tx: Tx, increase_id: str) -> Mapping[str, Mapping[str, Any]]:
    """Return by name what its approvers said, as the audit log proves it."""
    tx.flush()
    rows = tx.proven(increase_id, events=("increase_approved_by",))
    return {row.body["approver"]: {**row.body, "decision": "approved"} for row in rows}


def _refused_by_now(tx: Tx, increase: Increase, now: int) -> Reason | None:
    """Return the reason of the policy and of later grants against it, or None."""
    scope, window = increase.scope, increase.window
    check_requested(increase.kind, increase.agent, scope, window, tx.rules, tx.opening, now)
    running = raised(tx.rules, scope, window, now)
    return judged(increase.agent, increase.kind, scope, increase.amount, running, tx.rules)[1]


def _reject(increase_id: str, approver: str, reason: str, now: int, word: Word, tx: Tx) -> Increase:
    tx.flush()
    _expire(now, tx)
    increase = get_increase(tx.connection, increase_id)
    statement = increase_statement(tx.policy, increase, reason=reason)
    refusal = may_decide(tx.policy, increase, approver) or refuse_word(
        tx, statement, approver, word
    )
    if refusal is not None:
        return replace(increase, reason=refusal)
    _decide(tx, increase, approver, "rejected", reason, now, word)
    _set(tx.connection, increase_id, IncreaseStatus.REJECTED)
    why = Reason(ReasonCode.REJECTED, f"{approver} rejected it: {reason}")
    return replace(increase, status=IncreaseStatus.REJECTED, reason=why)


def _grant(tx: Tx, increase: Increase, author: str, now: int) -> Increase:
    """Lay it over the policy from now on, or say that the pool has nothing to move."""
    ends_at = now + increase.lasts_seconds
    amount = increase.amount
    if increase.kind == EMERGENCY:
        moved = move_in_pool(tx, increase, author=author, now=now, ends_at=ends_at)
        if not moved:
            text = "the pool's other agents have nothing left to give"
            refused = Reason(ReasonCode.POOL_LIMIT, text)
            _set(tx.connection, increase.id, IncreaseStatus.REJECTED)
            tx.record(now, "increase_rejected", increase.id, why=text)
            return replace(increase, status=IncreaseStatus.REJECTED, reason=refused)
        amount = moved
    overlay_id = insert_overlay(
        tx.connection,
        "grant",
        scope=increase.scope,
        window=increase.window,
        amount=amount,
        author=author,
        reason=increase.why,
        starts_at=now,
        ends_at=ends_at,
        increase_id=increase.id,
    )
    _set(tx.connection, increase.id, IncreaseStatus.GRANTED, overlay_id)
    said = overlay_body(increase.scope, increase.window, amount)
    tx.record(
        now,
        "limit_granted",
        overlay_id,
        by=author,
        of=increase.id,
        reason=increase.why,
        ends_at=ends_at,
        **said,
    )
    tx.notify([granted(increase, amount, author, now)])
    tx.reread_rules()
    return replace(
        increase, status=IncreaseStatus.GRANTED, amount=amount, ends_at=ends_at, reason=None
    )


def _decide(
    tx: Tx,
    increase: Increase,
    approver: str,
    decision: str,
    reason: str | None,
    now: int,
    word: Word,
) -> None:
    d = t.increase_decisions
    tx.connection.execute(delete(d).where(d.c.increase_id == increase.id, d.c.approver == approver))
    tx.connection.execute(
        insert(d).values(
            increase_id=increase.id, approver=approver, decision=decision, reason=reason, at=now
        )
    )
    event = f"increase_{decision}_by"
    proof = {} if word.signed is None else {"signed": word.signed.as_dict()}
    tx.record(now, event, increase.id, approver=approver, reason=reason, **proof)


def _expire(now: int, tx: Tx) -> None:
    for (increase_id,) in tx.connection.execute(_overdue(now)).all():
        _set(tx.connection, increase_id, IncreaseStatus.EXPIRED)
        tx.record(now, "increase_expired", increase_id)


def _overdue(now: int) -> Any:
    return select(_i.id).where(_i.status == "waiting", _i.expires_at <= now)


def _set(
    connection: Connection,
    increase_id: str,
    status: IncreaseStatus,
    overlay_id: str | None = None,
) -> None:
    connection.execute(
        update(t.increases)
        .where(_i.id == increase_id)
        .values(status=status.value, overlay_id=overlay_id)
    )
