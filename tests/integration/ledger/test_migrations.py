"""A migrated database has exactly the schema that the code is written for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from coordinator import ConfigurationError
from coordinator.ledger.store import migrate as migrations
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import HEAD, migrate
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.schema import metadata
from tests.integration.earlier import make_at
from tests.integration.ledger.child import Child
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, contents, edit, rows, tables
from tests.integration.stores import Store, is_postgresql, on_both

pytestmark = on_both


def schema(database: str) -> dict[str, Any]:
    """The parts of every table and index, in any order, without quotes and spacing."""
    if is_postgresql(database):
        return _reflected(database)
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    return {name: _parts(sql) for name, sql in rows(database, query)}


def _parts(sql: str) -> list[str]:
    body, _, after = " ".join(sql.replace('"', "").split()).partition("(")[2].rpartition(")")
    depth, start, parts = 0, 0, []
    for index, character in enumerate(body + ","):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(body[start:index].strip())
            start = index + 1
    parts = [re.sub(r"^CONSTRAINT (\w+) (?=PRIMARY|FOREIGN|UNIQUE)", "", p) for p in parts]
    return [*sorted(parts), after.strip()]


def _reflected(database: str) -> dict[str, Any]:
    engine = create_engine(database.replace("postgresql", "postgresql+psycopg", 1))
    found = inspect(engine)
    parts = {
        name: (
            sorted((c["name"], c["sqltext"]) for c in found.get_check_constraints(name)),
            found.get_pk_constraint(name)["constrained_columns"],
            sorted(map(repr, found.get_foreign_keys(name))),
            sorted(map(repr, found.get_indexes(name))),
            sorted(map(repr, found.get_columns(name))),
        )
        for name in found.get_table_names()
        if name != "alembic_version"
    }
    engine.dispose()
    return parts


@pytest.fixture
def migrated(database: str, store: Store) -> Iterator[Database]:
    """A fresh database that this test migrated."""
    opened = open_database(store.make(database))
    assert migrate(opened)
    yield opened
    opened.close()


def test_the_migrated_schema_is_the_one_in_the_code(migrated: Database, database: str) -> None:
    with migrated.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_migrated_checks_keys_and_indexes_are_the_ones_in_the_code(
    migrated: Database, database: str, store: Store
) -> None:
    # Alembic compares neither checks nor the order of primary keys.
    made = store.make(store.url("made"))
    opened = open_database(made)
    metadata.create_all(opened.engine)
    opened.close()

    assert schema(database) == schema(made)


def test_migrating_twice_changes_nothing(migrated: Database, database: str) -> None:
    before = schema(database), contents(database)

    assert migrate(migrated) is False
    assert (schema(database), contents(database)) == before
    assert rows(database, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_of_processes_that_migrate_at_once_one_does_and_the_others_wait(
    database: str, store: Store
) -> None:
    store.make(database)
    children = [Child("migrate_it", database=database) for _ in range(4)]
    try:
        assert [child.says() for child in children] == ["ready"] * 4
        for child in children:
            child.go()
        told = [child.says() for child in children]
    finally:
        for child in children:
            child.__exit__()

    assert sorted(answer["done"] for answer in told) == [False, False, False, True]
    assert rows(database, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_the_head_in_the_code_is_the_newest_of_one_line_of_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent / "migrations"))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_a_later_version_is_refused_with_one_sentence_and_unchanged(
    opener: Opener, database: str
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    name = coordinator.wiring.database.name
    coordinator.close()
    edit(database, "UPDATE alembic_version SET version_num = '9999'")
    before = contents(database)

    with pytest.raises(ConfigurationError, match="was made by a later version") as told:
        opener()

    assert name in str(told.value)
    assert "\n" not in str(told.value)
    assert contents(database) == before


def test_migrating_is_kept_whole_or_not_at_all(database: str, store: Store) -> None:
    store.make(database)
    # A table of a stranger is in the way of the last one that the first migration makes.
    edit(database, "CREATE TABLE steps (id INTEGER)")
    before = tables(database)
    opened = open_database(database)

    with pytest.raises(Exception, match=r"steps.*already exists|can't be used"):
        migrate(opened)

    assert tables(database) == before
    edit(database, "DROP TABLE steps")
    assert migrate(opened)
    opened.close()


def test_an_upgrade_tells_what_agents_opened_from_what_operators_gave(
    opener: Opener, database: str, store: Store
) -> None:
    make_at("0004", store.make(database)).close()
    columns = "kind, id, agent, limits, status, opened_by, opened_at"
    limits = '{"limits": {"total": 50000000}, "categories": {}}'
    for name, agent, by in (("hers", "ada", "ada"), ("given", "ada", "olga"), ("all", None, "o")):
        row = ("task", name, agent, limits, "open", by, 0)
        edit(database, f"INSERT INTO openings ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
    coordinator = opener({"tasks": {"default": {"total_limit": "10"}}})
    found = {
        name: str(state.limit.amount)
        for name in ("hers", "given", "all")
        for state in coordinator.task(name).limits()
    }
    assert found == {"hers": "10.00", "given": "50.00", "all": "50.00"}


def test_every_time_and_amount_keeps_64_bits(migrated: Database, database: str) -> None:
    largest = 2**63 - 1
    edit(
        database,
        "INSERT INTO counters VALUES (?, 'agent', 'ada', 'total', ?, ?, ?)",
        *[largest] * 4,
    )

    assert rows(database, "SELECT id, start, held, spent FROM counters") == [(largest,) * 4]
