"""SQLite: a file in WAL mode, whose writers queue on a lock file beside it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coordinator.domain.errors import ConfigurationError, LedgerUnavailable
from coordinator.ledger.database import Stamp
from coordinator.ledger.turns import Turns

SQLITE_VERSION_MIN: Final = (3, 35, 0)
_CACHE_KIB: Final = 16_000
_numbers: Final = itertools.count()


class SqliteDatabase:
    """A SQLite file in WAL mode with synchronous=FULL.

    Writers queue on an OS file lock beside the database, because SQLite's own waiting is unfair;
    every write is BEGIN IMMEDIATE, so what it reads can't change before its commit.
    """

    many_hosts = False

    def __init__(self, url: URL, *, lock_timeout_seconds: int) -> None:
        self.path = _file_of(url)
        self._timeout = lock_timeout_seconds
        self._turns = Turns()
        self._queue = _FileLock(self.path.with_name(self.path.name + ".queue"))
        self._lock = _FileLock(self.path.with_name(self.path.name + ".lock"))
        self._engine = _engine(url, self.path, lock_timeout_seconds)
        # One connection for all writes: what it has read of the file stays good in its cache, and
        # SQLite tells it whether any other has written.
        self._writer: Connection | None = None
        self._writes = 0

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def engine(self) -> Engine:
        return self._engine

    def copy_to(self, path: Path) -> None:
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

    def exists(self) -> bool:
        return self.path.exists()

    def now_ms(self, connection: Connection) -> int:
        return time.time_ns() // 1_000_000

    def now(self) -> int:
        return int(time.time())

    def close(self) -> None:
        """Give the connections and the lock files back."""
        if self._turns.take(self._timeout):
            self._close_writer()
            self._turns.give_back()
        self._engine.dispose()
        self._queue.close()
        self._lock.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        with _faults_named(self.path), self._exclusive():
            self._writes += 1
            try:
                connection = self._open_writer()
                # On the driver: SQLAlchemy would take longer to say it than SQLite to do it.
                raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
                with connection.begin() as begun:
                    raw.execute("BEGIN IMMEDIATE")
                    yield connection
                    raw.execute("COMMIT")
                    begun.close()
            except BaseException:
                self._close_writer()
                raise

    def _open_writer(self) -> Connection:
        if self._writer is None:
            self._writer = self._engine.connect()
            raw = cast("sqlite3.Connection", self._writer.connection.dbapi_connection)
            # Of a batch's pages none is written before its commit, and a long past's stay at hand.
            raw.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        return self._writer

    def _close_writer(self) -> None:
        closed, self._writer = self._writer, None
        if closed is not None:
            closed.close()

    def stamp(self, connection: Connection) -> Stamp:
        raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        (version,) = raw.execute("PRAGMA data_version").fetchone()
        # The version tells of other connections alone, and means nothing to them.
        seen = (connection.info["number"], version)
        return Stamp((*seen, self._writes - 1), (*seen, self._writes))

    def in_one_go(self, connection: Connection) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with _faults_named(self.path), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                # After some faults SQLite has rolled back by itself: the fault is what to tell.
                with contextlib.suppress(DBAPIError):
                    connection.exec_driver_sql("ROLLBACK")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout
        if not self._turns.take(self._timeout):
            raise self._busy("other threads of this process")
        try:
            self._get_in_line(deadline)
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._turns.give_back()

    def _get_in_line(self, deadline: float) -> None:
        """Take the lock through the queue, so that whoever has just written comes last."""
        if not self._queue.take(deadline):
            raise self._busy("other processes")
        try:
            if not self._lock.take(deadline):
                raise self._busy("another process")
        finally:
            self._queue.release()

    def _busy(self, by: str) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"the database {self.path} was locked by {by} for {self._timeout} s;"
            " nothing was written"
        )


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.query:
        raise ConfigurationError("COORDINATOR_DATABASE_URL must name a file: sqlite:///FILE")
    return Path(url.database)


class _FileLock:
    """An exclusive lock of one file, of this process against others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self, deadline: float) -> bool:
        """Wait for the lock; False when it did not come by ``deadline`` (monotonic seconds)."""
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        # The kernel serves blocked waiters in turn but knows no timeout: a thread waits instead.
        file = os.dup(self._file)
        got = threading.Event()
        threading.Thread(target=_wait_for, args=(file, got), daemon=True).start()
        if got.wait(max(0.0, deadline - time.monotonic())):
            return True
        # The duplicate shares this lock: it must never be taken after we gave up.
        self.close()
        return False

    def release(self) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None:
            abandoned, self._file = self._file, None
            os.close(abandoned)


def _wait_for(file: int, got: threading.Event) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    got.set()
    os.close(file)


def _engine(url: URL, path: Path, busy_timeout_seconds: int) -> Engine:
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
        # Only one that is not there is opened here: to close a database's file gives up the locks
        # that SQLite holds on it in this process, and another process would delete the log in use.
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        record.info["number"] = next(_numbers)
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
    except (DBAPIError, sqlite3.Error) as fault:
        said = fault.orig if isinstance(fault, DBAPIError) else fault
        if isinstance(said, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise LedgerUnavailable(f"the database {path} can't be used: {said}") from fault
    except SQLAlchemyError as fault:
        raise LedgerUnavailable(f"the database {path} can't be used: {fault}") from fault
    except OSError as fault:
        if fault.filename is None or not str(fault.filename).startswith(str(path)):
            raise
        raise LedgerUnavailable(f"the database {path} can't be used: {fault.strerror}") from fault
