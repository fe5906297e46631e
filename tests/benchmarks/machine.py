"""What the machine does by itself: syncs of a file, and bare durable inserts."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import psycopg

RECORD: Final = b"r" * 4096
_TEXT: Final = "x" * 100


def fdatasync_per_second(folder: Path, seconds: float) -> float:
    """How often a file can be made longer by 4 KiB and waited for: one over the median time."""
    sync = getattr(os, "fdatasync", os.fsync)
    path = folder / "appended"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC, 0o600)

    def append() -> None:
        os.write(file, RECORD)
        sync(file)

    try:
        return 1000 / _median_ms(append, seconds)
    finally:
        os.close(file)
        path.unlink()


def bare_insert_ms(url: str, seconds: float) -> float:
    """The median time of a transaction that inserts one row into a table without any index.

    On SQLite in WAL mode with synchronous=FULL, BEGIN IMMEDIATE and COMMIT; on PostgreSQL a
    prepared INSERT that commits by itself, which is one round trip.
    """
    if not url.startswith("sqlite:///"):
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, text text)")

            def insert() -> None:
                server.execute("INSERT INTO bare (text) VALUES (%s)", (_TEXT,), prepare=True)

            return _median_ms(insert, seconds)

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=FULL")
        file.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, text TEXT)")

        def write() -> None:
            file.execute("BEGIN IMMEDIATE")
            file.execute("INSERT INTO bare (text) VALUES (?)", (_TEXT,))
            file.execute("COMMIT")

        return _median_ms(write, seconds)


def _median_ms(act: Callable[[], None], seconds: float) -> float:
    took: list[float] = []
    until = perf_counter() + seconds
    while not took or perf_counter() < until:
        began = perf_counter()
        act()
        took.append(perf_counter() - began)
    return median(took) * 1000


def described() -> dict[str, Any]:
    """What a reader of figures has to know of the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _cores() -> int:
    return os.cpu_count() or 1
