"""Notices: written with what they tell of, delivered later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, text

from coordinator.domain.notices import Notice

# SQLAlchemy has no upsert for every dialect; SQLite and PostgreSQL read this one alike.
_ONCE: Final = text(
    "INSERT INTO notices (key, at, kind, severity, subject, message, tries, due_at)"
    " VALUES (:key, :at, :kind, :severity, :subject, :message, 0, :at)"
    " ON CONFLICT (key) DO NOTHING"
)


def write_notices(connection: Connection, notices: Iterable[Notice]) -> None:
    """Keep each notice whose key is not known yet, due for delivery at once."""
    for notice in notices:
        connection.execute(
            _ONCE,
            {
                "key": notice.key[:500],
                "at": notice.at,
                "kind": notice.kind,
                "severity": notice.severity.value,
                "subject": notice.subject[:300],
                "message": notice.message,
            },
        )
