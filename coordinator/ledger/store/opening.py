"""Open the database that a URL names."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from coordinator.domain.errors import ConfigurationError
from coordinator.extras import needs_extra
from coordinator.ledger.store.database import LOCK_TIMEOUT_SECONDS, Database

_FORMS: Final = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"


def open_database(url: str, *, lock_timeout_seconds: int = LOCK_TIMEOUT_SECONDS) -> Database:
    """The database that ``url`` names; nothing is connected yet. ConfigurationError otherwise."""
    parsed = _parsed(url)
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        from coordinator.ledger.store.sqlite import SqliteDatabase

        return SqliteDatabase(parsed, lock_timeout_seconds=lock_timeout_seconds)
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        # Its driver is no business of those who have a file.
        with needs_extra("postgres", "a postgresql:// database"):
            from coordinator.ledger.store.postgresql import PostgresqlDatabase

        return PostgresqlDatabase(parsed, lock_timeout_seconds=lock_timeout_seconds)
    raise ConfigurationError(f"COORDINATOR_DATABASE_URL must be {_FORMS}")


def _parsed(url: str) -> URL:
    # The text is not repeated in the errors: it may hold a password.
    kind, _, rest = url.partition("://")
    login, at, place = rest.partition("@")
    if kind.startswith("postgres") and at and ("@" in place or "/" in login):
        raise ConfigurationError(
            "COORDINATOR_DATABASE_URL has a raw @ or / in its password: write %40 or %2F"
        )
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"COORDINATOR_DATABASE_URL must be {_FORMS}") from None
