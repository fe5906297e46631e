"""Migrations: bring a database to the schema of this version."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from coordinator.domain.errors import ConfigurationError
from coordinator.ledger.store.database import Database

HEAD: Final = "0001"
_SCRIPTS: Final = Path(__file__).parent / "migrations"


def revision(database: Database) -> str | None:
    """The schema revision of a database; None before its first migration."""
    with database.read() as connection:
        return read_revision(connection)


def migrate(database: Database, *, scripts: Path = _SCRIPTS, head: str = HEAD) -> bool:
    """Migrate to the newest schema of ``scripts``, ``head``; False when it already has it.

    Of several processes at once one migrates and the others wait. ConfigurationError when the
    database was made by a later version.
    """
    if revision(database) == head:
        return False
    # Seconds of import for nothing in every process but the first.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(scripts))
    with database.write() as connection:
        if read_revision(connection) == head:
            return False
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, head)
        except CommandError as fault:
            raise ConfigurationError(
                f"the database {database.name} was made by a later version ({fault})"
            ) from None
    return True


def read_revision(connection: Connection) -> str | None:
    """Return the schema revision within a transaction; None before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
