"""Databases for measurements: commits are durable, as they are in use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tests.integration.stores import PostgresqlServer, PostgresqlStore, SqliteStore, rows


@contextmanager
def open_postgresql(folder: Path) -> Iterator[PostgresqlStore]:
    """A server of one's own, below ``folder``."""
    # Not in a folder that only its maker may enter: the server runs as a user of its own.
    server = PostgresqlServer(Path(tempfile.mkdtemp(prefix="bench-pg-", dir=folder)))
    with closing(server), closing(PostgresqlStore(server)) as store:
        yield store


def sync_from_now_on(server: PostgresqlServer) -> None:
    """Make its commits durable, which those of tests and of filling need not be."""
    for setting in ("fsync", "full_page_writes"):
        server.sql(f"ALTER SYSTEM RESET {setting}")
    server.restart()
    url = server.url("postgres")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert rows(url, f"SHOW {setting}") == [("on",)], setting


@contextmanager
def fresh_databases(
    kind: str, folder: Path, below: Path, names: Sequence[str]
) -> Iterator[list[str]]:
    """URLs of empty databases: files in ``folder``, or of a server in a folder ``below``."""
    if kind == "sqlite":
        store = SqliteStore(folder, folder / "none")
        yield [store.url(name) for name in names]
        return
    with open_postgresql(below) as made:
        sync_from_now_on(made.server)
        yield [made.make(made.url(name)) for name in names]
