"""A migrated database has exactly the schema that the code is written for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from coordinator import ConfigurationError
from coordinator.ledger import migrate as migrations
from coordinator.ledger.database import Database
from coordinator.ledger.migrate import HEAD, migrate
from coordinator.ledger.schema import metadata
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, contents, edit, rows, tables


def schema(path: Path) -> dict[str, list[str]]:
    """The parts of every table and index, in any order, without quotes and spacing."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    return {name: _parts(sql) for name, sql in rows(path, query)}


def _parts(sql: str) -> list[str]:
    body = " ".join(sql.replace('"', "").split()).partition("(")[2].rpartition(")")[0]
    depth, start, parts = 0, 0, []
    for index, character in enumerate(body + ","):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(body[start:index].strip())
            start = index + 1
    return sorted(re.sub(r"^CONSTRAINT (\w+) (?=PRIMARY|FOREIGN|UNIQUE)", "", p) for p in parts)


@pytest.fixture
def database(path: Path) -> Database:
    database = Database(f"sqlite:///{path}")
    assert migrate(database)
    return database


def test_the_migrated_schema_is_the_one_in_the_code(database: Database, path: Path) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    database.close()


def test_the_migrated_checks_keys_and_indexes_are_the_ones_in_the_code(
    database: Database, path: Path, tmp_path: Path
) -> None:
    # Alembic compares neither checks nor the order of primary keys.
    made = tmp_path / "made.db"
    engine = create_engine(f"sqlite:///{made}")
    metadata.create_all(engine)
    engine.dispose()

    assert schema(path) == schema(made)
    database.close()


def test_migrating_twice_changes_nothing(database: Database, path: Path) -> None:
    before = schema(path), contents(path)

    assert migrate(database) is False
    assert (schema(path), contents(path)) == before
    assert rows(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    database.close()


def test_the_head_in_the_code_is_the_newest_of_one_line_of_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_a_later_version_is_refused_with_one_sentence_and_unchanged(
    opener: Opener, path: Path
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    coordinator.close()
    edit(path, "UPDATE alembic_version SET version_num = '9999'")
    before = contents(path)

    with pytest.raises(ConfigurationError, match="was made by a later version") as told:
        opener()

    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert contents(path) == before


def test_migrating_is_kept_whole_or_not_at_all(path: Path) -> None:
    # A table of a stranger is in the way of the last one that the first migration makes.
    edit(path, "CREATE TABLE steps (id INTEGER)")
    before = tables(path)
    database = Database(f"sqlite:///{path}")

    with pytest.raises(Exception, match=r"steps.*already exists|can't be used"):
        migrate(database)

    assert tables(path) == before
    edit(path, "DROP TABLE steps")
    assert migrate(database)
    database.close()


def test_every_time_and_amount_keeps_64_bits(database: Database, path: Path) -> None:
    largest = 2**63 - 1
    edit(path, "INSERT INTO counters VALUES ('agent', 'ada', 'total', ?, ?, ?)", *[largest] * 3)

    assert rows(path, "SELECT start, held, spent FROM counters") == [(largest,) * 3]
    database.close()
