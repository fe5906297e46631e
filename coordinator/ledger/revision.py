"""Which schema a database has."""

from __future__ import annotations

from coordinator.ledger.database import Database
from coordinator.ledger.migrate import _revision


def revision(database: Database) -> str | None:
    """The schema revision of an existing database; None before its first migration."""
    with database.read() as connection:
        return _revision(connection)
