"""Pause new spending, in the transaction that found the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from coordinator.domain.notices import paused, unpaused
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

# Who paused tells why: the chain has money of ours that the books did not know.
RECOVERY: Final = "recovery"
_BY_ITSELF: Final = frozenset({RECOVERY, "executor"})

_x = t.pauses.c
_RECOVERING: Final = Prepared(
    select(_x.at).where(_x.scope_kind == "organisation", _x.by == RECOVERY)
)


@dataclass(frozen=True, slots=True)
class Pause:
    """Spending stopped for a scope: organisation, agent, pool, provider or x402."""

    scope_kind: str
    scope_id: str
    reason: str
    by: str
    at: int

    def __str__(self) -> str:
        return f"{self.scope_kind}:{self.scope_id}" if self.scope_id else self.scope_kind


def list_pauses(connection: Connection) -> Sequence[Pause]:
    """Everything that is stopped, oldest first."""
    rows = connection.execute(select(t.pauses).order_by(_x.at, _x.scope_kind, _x.scope_id)).all()
    return [Pause(r.scope_kind, r.scope_id, r.reason, r.by, r.at) for r in rows]


def pause_scope(tx: Tx, pause: Pause) -> bool:
    """Stop new spending in the scope; False, and nothing written, when it is stopped already."""
    same = (_x.scope_kind == pause.scope_kind, _x.scope_id == pause.scope_id)
    if tx.connection.execute(select(t.pauses).where(*same)).first() is not None:
        return False
    by, reason, at = pause.by, pause.reason, pause.at
    with tx.written() as connection:
        connection.execute(insert(t.pauses).values(asdict(pause)))
    tx.record(at, "paused", str(pause), by=by, reason=reason)
    tx.notify([paused(str(pause), by, reason, at, by_itself=by in _BY_ITSELF)])
    return True


def pause_everything(tx: Tx, reason: str, *, by: str, now: int) -> bool:
    """Stop all new spending; False when it is stopped already, for whatever reason."""
    return pause_scope(tx, Pause("organisation", "", reason, by, now))


def lift_pause(
    tx: Tx, scope_kind: str, scope_id: str, reason: str, *, by: str, now: int, **agreed: Any
) -> bool:
    """Allow spending again in the scope; False, and nothing written, when it was not stopped."""
    with tx.written() as connection:
        where = (_x.scope_kind == scope_kind, _x.scope_id == scope_id)
        if not connection.execute(delete(t.pauses).where(*where)).rowcount:
            return False
        subject = f"{scope_kind}:{scope_id}" if scope_id else scope_kind
        tx.record(now, "unpaused", subject, by=by, reason=reason, **agreed)
        tx.notify([unpaused(subject, by, reason, now)])
        return True


def report_tampering(tx: Tx, subject: str, what: str, *, now: int) -> None:
    """Stop all new spending and tell that somebody else writes to the database.

    Told once for each pause, however often it is found.
    """
    why = f"the database was changed outside this program: {what}; check it, then unpause"
    if pause_everything(tx, why, by="executor", now=now):
        tx.record(now, "tampering_found", subject, why=what)


def begin_recovery(tx: Tx, reason: str, *, now: int) -> None:
    """Stop all new spending because the books are behind the chain, whoever had stopped it."""
    if recovering(tx.connection):
        return
    tx.connection.execute(delete(t.pauses).where(_x.scope_kind == "organisation"))
    pause_everything(tx, reason, by=RECOVERY, now=now)


def recovering(connection: Connection) -> bool:
    """Whether the books were found behind the chain, and no approver has looked yet."""
    return _RECOVERING.one(connection) is not None
