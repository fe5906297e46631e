"""Bring a database to the schema of this version."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from coordinator.ledger.store.migrate import HEAD, migrate
from coordinator.ledger.store.opening import open_database


@dataclass(frozen=True, slots=True)
class Migrated:
    """A database at schema ``revision``; ``changed`` is False when it had it already."""

    database: str
    changed: bool
    revision: str


def migrate_database(url: str) -> Migrated:
    """Migrate the database at ``url``; LedgerUnavailable when it can't be opened."""
    with closing(open_database(url)) as database:
        return Migrated(database.name, migrate(database), HEAD)
