"""Pause new spending, in the transaction that found the reason."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from coordinator.domain.notices import paused, unpaused
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.notices import write_notices
from coordinator.ledger.tx.transaction import Tx

# Who paused tells why: the chain has money of ours that the books did not know.
RECOVERY: Final = "recovery"
_BY_ITSELF: Final = frozenset({RECOVERY, "executor"})

_x = t.pauses.c


def pause_scope(
    connection: Connection,
    audit: AuditLog,
    scope_kind: str,
    scope_id: str,
    reason: str,
    *,
    by: str,
    now: int,
) -> bool:
    """Stop new spending in the scope; False, and nothing written, when it is stopped already."""
    query = select(t.pauses).where(_x.scope_kind == scope_kind, _x.scope_id == scope_id)
    if connection.execute(query).first() is not None:
        return False
    connection.execute(
        insert(t.pauses).values(
            scope_kind=scope_kind, scope_id=scope_id, reason=reason, by=by, at=now
        )
    )
    subject = f"{scope_kind}:{scope_id}" if scope_id else scope_kind
    audit.append(connection, now, "paused", subject, by=by, reason=reason)
    notice = paused(subject, by, reason, now, by_itself=by in _BY_ITSELF)
    write_notices(connection, [notice])
    return True


def pause_everything(
    connection: Connection, audit: AuditLog, reason: str, *, by: str, now: int
) -> bool:
    """Stop all new spending; False when it is stopped already, for whatever reason."""
    return pause_scope(connection, audit, "organisation", "", reason, by=by, now=now)


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


def report_tampering(
    connection: Connection, audit: AuditLog, subject: str, what: str, *, now: int
) -> None:
    """Stop all new spending and tell that somebody else writes to the database.

    Told once for each pause, however often it is found.
    """
    why = f"the database was changed outside this program: {what}; check it, then unpause"
    if pause_everything(connection, audit, why, by="executor", now=now):
        audit.append(connection, now, "tampering_found", subject, why=what)


def begin_recovery(connection: Connection, audit: AuditLog, reason: str, *, now: int) -> None:
    """Stop all new spending because the books are behind the chain, whoever had stopped it."""
    if recovering(connection):
        return
    connection.execute(delete(t.pauses).where(_x.scope_kind == "organisation"))
    pause_everything(connection, audit, reason, by=RECOVERY, now=now)


def recovering(connection: Connection) -> bool:
    """Whether the books were found behind the chain, and no approver has looked yet."""
    query = select(t.pauses).where(_x.scope_kind == "organisation", _x.by == RECOVERY)
    return connection.execute(query).first() is not None
