"""Notices: written with what they tell of, delivered later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select, text, update

from coordinator.domain.notices import OVER, TREASURY, KeptNotice, Notice, Severity
from coordinator.domain.observed import Event
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared

TRIES_MAX: Final = 10

_n = t.notices.c
# SQLAlchemy has no upsert for every dialect; SQLite and PostgreSQL read this one alike.
_ONCE: Final = Prepared(
    text(
        "INSERT INTO notices (key, at, kind, severity, subject, message, fields, tries,"
        " due_at)"
        " VALUES (:key, :at, :kind, :severity, :subject, :message, :fields, 0,"
        " :due_at)"
        " ON CONFLICT (key) DO NOTHING"
    )
)


def write_notices(connection: Connection, notices: Iterable[Notice]) -> None:
    """Keep each notice whose key is not known yet, due for delivery at once."""
    _ONCE.each(
        connection,
        [
            {
                "key": notice.key[:500],
                "at": notice.at,
                "due_at": notice.at,
                "kind": notice.kind,
                "severity": notice.severity.value,
                "subject": notice.subject[:300],
                "message": notice.message,
                "fields": json.dumps(dict(notice.fields)),
            }
            for notice in notices
        ],
    )


def forget_due(connection: Connection) -> None:
    """Leave undelivered what was kept while there was nobody to tell."""
    connection.execute(update(t.notices).where(_n.due_at.is_not(None)).values(due_at=None))


class NoticeBook:
    """Notices and what became of their delivery."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tell(self, notices: Iterable[Notice]) -> None:
        """Keep each notice whose key is not known yet, in a transaction of its own."""
        with self._database.write() as connection:
            write_notices(connection, notices)

    def was_written(self, key: str) -> bool:
        """Whether a notice of this key was told."""
        with self._database.read() as connection:
            return connection.execute(select(_n.seq).where(_n.key == key)).first() is not None

    def is_active(self, kind: str, subject: str = TREASURY) -> bool:
        """Whether the condition was told and has not been told to be over since."""
        kinds = (kind, f"{kind}{OVER}")
        told = _n.kind.in_(kinds), _n.subject == subject
        query = select(_n.kind).where(*told).order_by(_n.seq.desc()).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar() == kind

    def due(self, now: int, limit: int, *, besides: Iterable[int] = ()) -> Sequence[KeptNotice]:
        """List the notices to deliver at ``now``, oldest first, but for those of ``besides``."""
        query = select(t.notices).where(_n.due_at <= now, _n.seq.not_in(list(besides)))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_n.seq).limit(limit))
            return [_kept(row) for row in rows]

    def next_due(self) -> int | None:
        """The unix second at which the next delivery is due; None without any."""
        with self._database.read() as connection:
            found = connection.execute(select(func.min(_n.due_at))).scalar()
        return int(found) if found is not None else None

    def delivered(self, seq: int, now: int) -> None:
        """Every target has taken it."""
        with self._database.write() as connection:
            _tried(connection, seq, due_at=None, delivered_at=now, fault=None)

    def failed(self, seq: int, fault: str, next_due: int) -> bool:
        """Try it again at ``next_due``; False after TRIES_MAX tries, then its fault stays."""
        with self._database.write() as connection:
            tries = connection.execute(select(_n.tries).where(_n.seq == seq)).scalar() or 0
            due_at = None if tries + 1 >= TRIES_MAX else next_due
            _tried(connection, seq, due_at=due_at, fault=fault)
        return due_at is not None

    def after(self, seq: int) -> Sequence[tuple[int, Event]]:
        """The alerts above a number, oldest first, each with its number."""
        query = select(t.notices).where(_n.seq > seq).order_by(_n.seq).limit(100)
        with self._database.read() as connection:
            return [(row.seq, _event(_kept(row))) for row in connection.execute(query)]

    def list(
        self,
        *,
        since: int | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> Sequence[KeptNotice]:
        """Notices told at ``since`` or later, newest first."""
        query = select(t.notices).order_by(_n.seq.desc()).limit(limit)
        if since is not None:
            query = query.where(_n.at >= since)
        if kind is not None:
            query = query.where(_n.kind == kind)
        with self._database.read() as connection:
            return [_kept(row) for row in connection.execute(query)]

    def last_seq(self) -> int:
        """The number of the newest notice; 0 without any."""
        newest = self.list(limit=1)
        return newest[0].seq if newest else 0

    def last_tried(self) -> KeptNotice | None:
        """The newest notice whose delivery was tried."""
        query = select(t.notices).where(_n.tries > 0).order_by(_n.seq.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return _kept(row) if row is not None else None


def _tried(connection: Connection, seq: int, **values: Any) -> None:
    connection.execute(update(t.notices).where(_n.seq == seq).values(tries=_n.tries + 1, **values))


def _kept(row: Any) -> KeptNotice:
    notice = Notice(
        row.key,
        row.at,
        row.kind,
        Severity(row.severity),
        row.subject,
        row.message,
        json.loads(row.fields),
    )
    return KeptNotice(row.seq, notice, row.tries, row.due_at, row.delivered_at, row.fault)


def _event(kept: KeptNotice) -> Event:
    notice = kept.notice
    ids = {**notice.fields, "notice": str(kept.seq), "subject": notice.subject}
    return Event(kind="alert", at=notice.at, outcome=notice.kind, reason=notice.message, ids=ids)
