"""Tasks and sessions: opened with limits, closed with what waits in them, each one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.limits.limits import Limit, Scope, ScopeKind
from coordinator.domain.limits.rules import TASK, Opening, Rules
from coordinator.domain.limits.run import Run
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.limits.openings import (
    close_opening,
    closed_reason,
    insert_opening,
    list_runs,
    opening_row,
    read_run,
    unsigned_of_run,
    used_by_others,
)
from coordinator.ledger.limits.recount import recount_run
from coordinator.ledger.spend.cost_ends import void_held
from coordinator.ledger.spend.moves import end_unsigned
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.transaction import Tx


class RunBook:
    """Opens and closes tasks and sessions."""

    def __init__(self, database: Database, group_commit: GroupCommit) -> None:
        self._database = database
        self._group_commit = group_commit

    def open(self, opening: Opening, *, by: str, now: int) -> Run:
        """Open it with its limits over the policy's default; an agent may only lower these.

        InvalidRequest when it was opened before, is for an agent that the policy does not have or
        for one while others have spent in it, or an agent asks for more than the default.
        """
        return self._group_commit.run(partial(self._open, opening, by, now))

    def close(self, kind: str, name: str, *, by: str, now: int) -> Run:
        """Close it: held costs are voided and purchases with nothing signed cancelled.

        What is on its way or funded goes on. Closing again changes nothing; UnknownId when it was
        never opened by name.
        """
        return self._group_commit.run(partial(self._close, kind, name, by, now))

    def get(self, kind: str, name: str) -> Run:
        """The task or session; UnknownId when nobody opened it by name."""
        with self._database.read() as connection:
            return _require_opened(read_run(connection, kind, name), kind, name)

    def find(self, kind: str, name: str) -> Run | None:
        """The task or session; None when nobody opened it by name."""
        with self._database.read() as connection:
            return read_run(connection, kind, name)

    def list(self, kind: str, *, open_only: bool = False) -> Sequence[Run]:
        """Every task or session that was opened by name, oldest first."""
        with self._database.read() as connection:
            return list_runs(connection, kind, open_only=open_only)

    def _open(self, opening: Opening, by: str, now: int, tx: Tx) -> Run:
        agent = opening.agent
        if agent is not None and tx.rules.policy.agent(agent) is None:
            raise InvalidRequest(f"{agent} is not an agent of the policy")
        if opening.by_agent:
            _only_lower(tx.rules, opening, now)
        tx.flush()
        if opening.agent is not None and used_by_others(tx.connection, opening):
            raise InvalidRequest(f"other agents have spent in {opening.kind} {opening.id[:60]!r}")
        insert_opening(tx.connection, opening, by=by, now=now)
        recount_run(tx.connection, tx.rules, opening.kind, opening.id, now)
        tx.forget()
        tx.record(
            now,
            f"{opening.kind}_opened",
            opening.id,
            agent=opening.agent,
            by=by,
            by_agent=opening.by_agent,
            **opening_row(opening),
        )
        # Who decides next in this transaction compares the row with the log.
        tx.flush()
        return Run(opening, by, now, None, None)

    def _close(self, kind: str, name: str, by: str, now: int, tx: Tx) -> Run:
        tx.flush()
        connection = tx.connection
        run = _require_opened(read_run(connection, kind, name), kind, name)
        if run.opening.closed:
            return run
        close_opening(connection, kind, name, by=by, now=now)
        column = t.costs.c.task if kind == TASK else t.costs.c.session
        voided = void_held(tx, column == name, now)
        tx.flush()
        cancelled = unsigned_of_run(connection, kind, name)
        why = closed_reason(kind, name, by)
        for purchase_id in cancelled:
            purchase = read_purchase(tx, purchase_id)
            end_unsigned(tx, purchase, Status.CANCELLED, why, now)
        tx.forget()
        tx.record(now, f"{kind}_closed", name, by=by, voided=len(voided), cancelled=cancelled)
        # Who decides next in this transaction compares the row with the log.
        tx.flush()
        closed = read_run(connection, kind, name)
        assert closed is not None
        return closed


def _require_opened(run: Run | None, kind: str, name: str) -> Run:
    if run is None:
        raise UnknownId(f"no {kind} {name[:60]!r} was opened")
    return run


def _only_lower(rules: Rules, opening: Opening, now: int) -> None:
    """InvalidRequest unless every limit is at most what the policy gives without an opening."""
    kind, name = opening.kind, opening.id
    table = rules.policy.tasks if kind == TASK else rules.policy.sessions
    default = rules.task_limits(name) if kind == TASK else rules.session_limits(name)
    if table is not None and default is None:
        raise InvalidRequest(
            f"only an operator may open a {kind}: the policy has no default for {kind}s"
        )
    stated = [(Scope(ScopeKind(kind), name), default.amounts if default else {}, opening.limits)]
    for category, amounts in opening.categories.items():
        own = rules.task_limits(name)
        known = own.categories.get(category) if own else None
        pair = Scope.pair(ScopeKind.TASK_CATEGORY, name, category)
        stated.append((pair, known.amounts if known else {}, amounts))
    for scope, allowed, asked in stated:
        for window, amount in asked.items():
            _not_above(rules, scope, window, allowed.get(window), amount, now)


def _not_above(
    rules: Rules, scope: Scope, window: Window, allowed: Usdc | None, asked: Usdc, now: int
) -> None:
    if allowed is None:
        return
    most = rules.amount(Limit(scope, window, allowed), now)
    if asked > most:
        raise InvalidRequest(
            f"{asked} USDC {window.words} is above the default of {most}:"
            " only an operator may open it with more"
        )
