"""A migrated database has exactly the schema that the code is written for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from coordinator import ConfigurationError
from coordinator.domain.chain.events import EscrowState
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store import migrate as migrations
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import HEAD, migrate, revision
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.schema import metadata
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.child import Child
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    ask,
    assert_books_agree,
    contents,
    edit,
    rows,
    tables,
)
from tests.integration.stores import Store, is_postgresql, on_both

pytestmark = on_both
SCRIPTS = Path(migrations.__file__).parent / "migrations"
# What a migration does: columns, and what rows hold in them.
LATER = """
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "0001"


def upgrade():
    op.add_column("purchases", sa.Column("wish", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE purchases SET wish = 'of ' || task WHERE task IS NOT NULL")
"""


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


_MADE_BY_STATEMENTS = {
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "functions": (
        "SELECT proname, pg_get_functiondef(oid) FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace"
    ),
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
}


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
    made = {name: sorted(rows(database, query)) for name, query in _MADE_BY_STATEMENTS.items()}
    assert all(made.values())
    return parts | made


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


def migrated_at_once(database: str, **terms: Any) -> list[bool]:
    """What ``migrate`` answers in each of four processes that call it at the same time."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("migrate_it", database=database, **terms)) for _ in range(4)
        ]
        assert [child.says() for child in children] == ["ready"] * 4
        for child in children:
            child.go()
        return [child.says()["done"] for child in children]


def in_columns_of(
    earlier: dict[str, list[tuple[Any, ...]]], later: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[tuple[Any, ...]]]:
    """The later rows without the columns that an upgrade has added behind the others."""
    widths = {name: len(found[0]) for name, found in earlier.items() if found}
    return {
        name: earlier[name]
        if name == "alembic_version"
        else sorted((row[: widths.get(name)] for row in later[name]), key=repr)
        for name in earlier
    }


def test_migrating_twice_changes_nothing(migrated: Database, database: str) -> None:
    before = schema(database), contents(database)

    assert migrate(migrated) is False
    assert (schema(database), contents(database)) == before
    assert rows(database, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_of_processes_that_migrate_at_once_one_does_and_the_others_wait(
    database: str, store: Store
) -> None:
    store.make(database)

    assert sorted(migrated_at_once(database)) == [False, False, False, True]
    assert rows(database, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_the_head_in_the_code_is_the_newest_of_one_line_of_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))

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


@pytest.fixture
def later(tmp_path: Path) -> dict[str, Any]:
    """The terms of ``migrate`` in a version that has one migration more."""
    scripts = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "later.py").write_text(LATER)
    return {"scripts": scripts, "head": "later"}


def test_an_upgrade_keeps_purchases_in_flight(
    opener: Opener, database: str, later: dict[str, Any]
) -> None:
    coordinator = opener()
    feed = ChainFeed(coordinator)
    feed.open("1000")
    asked = [ask(coordinator.agent("ada"), f"{n}.00", task=f"t-{n}") for n in (1, 2, 75)]
    funded, approved, waiting = asked
    feed.fund(funded)
    before = contents(database)

    assert migrate(coordinator.wiring.database, **later)

    assert revision(coordinator.wiring.database) == "later"
    assert in_columns_of(before, contents(database)) == before
    found = rows(database, "SELECT task, wish FROM purchases ORDER BY seq")
    assert found == [("t-1", "of t-1"), ("t-2", "of t-2"), ("t-75", "of t-75")]
    assert migrate(coordinator.wiring.database, **later) is False

    # All of them go on, views and triggers count on, and no id is given out twice.
    feed.move(funded, EscrowState.STARTED)
    feed.move(funded, EscrowState.DELIVERED)
    feed.settle(funded)
    feed.fund(approved)
    feed.finalise()
    assert coordinator.approve(waiting.approval_id or "", approver="alice").done
    ask(coordinator.agent("ada"), "3.00")
    statuses = [coordinator.get(purchase.id).status for purchase in asked]
    assert statuses == ["settled", "funded", "approved"]
    assert_books_agree(database)
    assert verify(coordinator.wiring.audit).faults == ()


def test_of_processes_that_upgrade_at_once_one_does_and_the_others_wait(
    opener: Opener, database: str, later: dict[str, Any]
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    coordinator.close()
    before = contents(database)

    done = migrated_at_once(database, **later)

    assert sorted(done) == [False, False, False, True]
    assert in_columns_of(before, contents(database)) == before


def test_an_upgraded_database_is_refused_by_the_version_before(
    opener: Opener, database: str, later: dict[str, Any]
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    migrate(coordinator.wiring.database, **later)
    coordinator.close()
    before = contents(database)

    with pytest.raises(ConfigurationError, match="was made by a later version"):
        opener()

    assert contents(database) == before


def test_every_time_and_amount_keeps_64_bits(migrated: Database, database: str) -> None:
    largest = 2**63 - 1
    edit(
        database,
        "INSERT INTO counters VALUES (?, 'agent', 'ada', 'total', ?, ?, ?)",
        *[largest] * 4,
    )

    assert rows(database, "SELECT id, start, held, spent FROM counters") == [(largest,) * 4]
