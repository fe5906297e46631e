"""One database: short write transactions one at a time, snapshot reads, faults as one error."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from coordinator.domain.errors import ConfigurationError, LedgerUnavailable

SQLITE_VERSION_MIN: Final = (3, 35, 0)


class Database:
    """A SQLite file in WAL mode with synchronous=FULL.

    Writers queue on an OS file lock beside the database, because SQLite's own waiting is unfair;
    every write is BEGIN IMMEDIATE, so what it reads can't change before its commit.
    """

    def __init__(self, url: str, *, lock_timeout_seconds: int = 15) -> None:
        self.path = _file_of(url)
        self._timeout = lock_timeout_seconds
        self._turns = _Turns()
        self._lock_file: int | None = None
        self._engine = _engine(url, self.path, lock_timeout_seconds)

    def close(self) -> None:
        """Give the connections and the lock file back."""
        self._engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction: committed at the end, rolled back on any exception."""
        with _faults_named(self.path), self._exclusive(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                with contextlib.suppress(DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot; never waits for writers."""
        with _faults_named(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                # After some faults SQLite has rolled back by itself: the fault is what to tell.
                with contextlib.suppress(DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")

    def copy_to(self, path: Path) -> None:
        """Write one consistent snapshot into the empty file ``path``; writers go on meanwhile.

        ConfigurationError for a database that has tools of its own for it.
        """
        if self._engine.dialect.name != "sqlite":
            raise ConfigurationError(
                "a PostgreSQL database is backed up with pg_dump or point-in-time recovery"
            )
        with _faults_named(self.path), self._engine.connect() as connection:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            try:
                with contextlib.closing(sqlite3.connect(path)) as target:
                    source.backup(target)
            except sqlite3.Error as fault:
                raise LedgerUnavailable(
                    f"the database {self.path} can't be copied to {path.parent}: {fault}"
                ) from fault

    @property
    def engine(self) -> Engine:
        return self._engine

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout
        if not self._turns.take(self._timeout):
            raise self._busy("other threads of this process")
        try:
            self._lock(deadline)
            try:
                yield
            finally:
                assert self._lock_file is not None
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        finally:
            self._turns.give_back()

    def _lock(self, deadline: float) -> None:
        if self._lock_file is None:
            self._lock_file = _open_lock_file(self.path)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        # The kernel serves blocked waiters in turn but knows no timeout: a thread waits instead.
        file = os.dup(self._lock_file)
        got = threading.Event()
        threading.Thread(target=_wait_for_lock, args=(file, got), daemon=True).start()
        if not got.wait(max(0.0, deadline - time.monotonic())):
            # The duplicate shares this lock: it must never be taken after we gave up.
            abandoned, self._lock_file = self._lock_file, None
            os.close(abandoned)
            raise self._busy("another process")

    def _busy(self, by: str) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"the database {self.path} was locked by {by} for {self._timeout} s;"
            " nothing was written"
        )


class _Turns:
    """A lock that serves threads in the order in which they came; threading's own does not."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def take(self, timeout_seconds: float) -> bool:
        """Wait for the turn; False when it did not come in time."""
        mine = threading.Event()
        try:
            with self._inner:
                if not self._taken:
                    self._taken = True
                    return True
                self._waiting.append(mine)
            came = mine.wait(timeout_seconds)
        except BaseException:
            if not self._give_up(mine):
                self.give_back()
            raise
        return came or not self._give_up(mine)

    def _give_up(self, mine: threading.Event) -> bool:
        with self._inner:
            if mine.is_set():
                return False
            if mine in self._waiting:
                self._waiting.remove(mine)
            return True

    def give_back(self) -> None:
        """Hand the turn to whoever waits longest."""
        with self._inner:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


def _file_of(url: str) -> Path:
    # The text is not repeated in the errors: it may hold a password.
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("COORDINATOR_DATABASE_URL must be sqlite:///FILE") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ConfigurationError(
            "COORDINATOR_DATABASE_URL must be sqlite:///FILE: other databases are not supported yet"
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise ConfigurationError("COORDINATOR_DATABASE_URL must name a file: sqlite:///FILE")
    return Path(parsed.database)


def _wait_for_lock(file: int, got: threading.Event) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    got.set()
    os.close(file)


def _open_lock_file(database: Path) -> int:
    path = database.with_name(database.name + ".lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _engine(url: str, path: Path, busy_timeout_seconds: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=16,
        max_overflow=256,
        # For programs that write without the lock file, such as a shell on the database.
        connect_args={"timeout": busy_timeout_seconds},
        pool_timeout=30,
    )

    @event.listens_for(engine, "do_connect")
    def _make_file(*_: object) -> None:
        # SQLite would make a file that everybody can read; the files beside it take its mode.
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        # Transactions are begun by hand: the driver's own begin would be a deferred one.
        connection.isolation_level = None
        cursor = connection.cursor()
        _switch_to_wal(cursor, busy_timeout_seconds)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _switch_to_wal(cursor: sqlite3.Cursor, timeout_seconds: int) -> None:
    # Where several processes make the file at once, SQLite lets one of them switch and refuses
    # the others without waiting, whatever its timeout.
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as fault:
            busy = fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as fault:
        if isinstance(fault.orig, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise LedgerUnavailable(f"the database {path} can't be used: {fault.orig}") from fault
    except SQLAlchemyError as fault:
        raise LedgerUnavailable(f"the database {path} can't be used: {fault}") from fault
    except OSError as fault:
        if fault.filename is None or not str(fault.filename).startswith(str(path)):
            raise
        raise LedgerUnavailable(f"the database {path} can't be used: {fault.strerror}") from fault
