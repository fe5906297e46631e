"""SQLite: a file in WAL mode, whose writers queue on a lock file beside it."""

from __future__ import annotations

import contextlib
import ctypes
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

from coordinator.domain.errors import ConfigurationError, ForkedProcess, LedgerUnavailable
from coordinator.ledger.store.database import Stamp
from coordinator.ledger.store.prepared import Row
from coordinator.ledger.store.process_bound import Connected, Opened
from coordinator.ledger.store.turns import Turns

SQLITE_VERSION_MIN: Final = (3, 35, 0)
_CACHE_KIB: Final = 16_000
_numbers: Final = itertools.count()
# Files, by device and inode, that the parent of this process was writing to when it forked. SQLite
# would believe that this process holds the parent's locks of them.
_left_open: Final[set[tuple[int, int]]] = set()


class SqliteDatabase(Connected):
    """A SQLite file in WAL mode with synchronous=FULL.

    Writers queue on an OS file lock beside the database, because SQLite's own waiting is unfair;
    every write is BEGIN IMMEDIATE, so what it reads can't change before its commit.
    """

    many_hosts = False

    def __init__(self, url: URL, *, lock_timeout_seconds: int) -> None:
        self.path = _file_of(url)
        self._opened = Opened(f"the database {self.path}")
        self._timeout = lock_timeout_seconds
        self._turns = Turns()
        self._queue = _FileLock(self.path.with_name(self.path.name + ".queue"))
        self._lock = _FileLock(self.path.with_name(self.path.name + ".lock"))
        self._raw: set[sqlite3.Connection] = set()
        self._engine = _engine(url, self.path, lock_timeout_seconds, self._raw)
        # One connection for all writes: what it has read of the file stays good in its cache, and
        # SQLite tells it whether any other has written.
        self._writer: Connection | None = None
        self._writes = 0
        super().__init__()

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def engine(self) -> Engine:
        return self._engine

    def check(self) -> None:
        self._opened.check()

    def here(self) -> bool:
        return self._opened.here()

    def copy_to(self, path: Path) -> None:
        self.check()
        with _faults_named(self.path), self.connected(), self._engine.connect() as connection:
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
        if not self.here():
            return
        self._opened.close()
        mine = threading.Event()
        try:
            if self._turns.take(mine, self._timeout):
                self._close_writer()
        finally:
            self._turns.give_back(mine)
        self._engine.dispose()
        self._queue.close()
        self._lock.close()

    def disconnect(self) -> None:
        self._close_writer()
        self._engine.dispose()

    def disown(self) -> None:
        self._turns = Turns()
        self._queue.disown()
        self._lock.disown()
        for raw in self._raw:
            # Neither used nor closed, not even when Python ends: closing would undo, in the memory
            # that both share, what the parent is writing.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))
            raw.__class__ = _LeftOpen
        if self._raw:
            with contextlib.suppress(OSError):
                _left_open.add(_identity(self.path))

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        self.check()
        with _faults_named(self.path), self._exclusive(), self.connected():
            self._writes += 1
            try:
                connection = self._open_writer()
                # On the driver: SQLAlchemy would take longer to say it than SQLite to do it.
                raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
                raw.execute("BEGIN IMMEDIATE")
                yield connection
                self.check()
                raw.execute("COMMIT")
                # What SQLAlchemy began by itself, where it was asked for anything.
                if (begun := connection.get_transaction()) is not None:
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
        self.check()
        with _faults_named(self.path), self.connected(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                # After some faults SQLite has rolled back by itself: the fault is what to tell.
                with contextlib.suppress(DBAPIError, ForkedProcess):
                    connection.exec_driver_sql("ROLLBACK")

    def glance(self, statement: str) -> Row:
        self.check()
        with _faults_named(self.path), self.connected(), self._engine.connect() as connection:
            raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
            # No row is left to fetch, or the connection would keep its snapshot.
            rows: list[Row] = raw.execute(statement).fetchall()
            return rows[0] if rows else ()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        deadline = time.monotonic() + self._timeout
        mine = threading.Event()
        try:
            if not self._turns.take(mine, self._timeout):
                raise self._busy("other threads of this process")
            try:
                try:
                    self._get_in_line(deadline)
                except BaseException:
                    self._queue.release()
                    raise
                yield
            finally:
                self._lock.release()
        finally:
            self._turns.give_back(mine)

    def _get_in_line(self, deadline: float) -> None:
        """Take the lock through the queue, so that whoever has just written comes last."""
        try:
            if not self._queue.take(deadline):
                raise self._busy("other processes")
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


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


class _Connection(sqlite3.Connection):
    """A connection of this process; its class can be exchanged."""


class _LeftOpen(sqlite3.Connection):
    """A parent's connection in a forked child: unusable, and giving it back does nothing."""

    def cursor(self, *_: Any, **__: Any) -> Any:
        raise ForkedProcess(
            "this connection belongs to the process from which this one was forked: nothing was"
            " written here"
        )

    execute = executemany = commit = cursor

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class _FileLock:
    """An exclusive lock of one file, of this process against others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._duplicates: set[int] = set()

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
        got, left = threading.Event(), threading.Event()
        file, came = os.dup(self._file), False
        self._duplicates.add(file)
        try:
            threading.Thread(target=self._wait, args=(file, got, left), daemon=True).start()
            came = got.wait(max(0.0, deadline - time.monotonic()))
        finally:
            if not came:
                left.set()
                self.release()
                self.close()
        return came

    def _wait(self, file: int, got: threading.Event, left: threading.Event) -> None:
        """Get the lock for the caller, through a duplicate of its file that shares it."""
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever has left let the lock go before or lets it go here, whichever came second.
        if left.is_set():
            fcntl.flock(file, fcntl.LOCK_UN)
        got.set()
        self._duplicates.discard(file)
        os.close(file)

    def release(self) -> None:
        """Let the lock go; harmless without it."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None:
            abandoned, self._file = self._file, None
            os.close(abandoned)

    def disown(self) -> None:
        """Close a forked child's copies, which leaves the parent its lock."""
        for copy in self._duplicates:
            with contextlib.suppress(OSError):
                os.close(copy)
        self._duplicates.clear()
        self.close()


def _engine(
    url: URL, path: Path, busy_timeout_seconds: int, raw: set[sqlite3.Connection]
) -> Engine:
    engine = create_engine(
        url,
        pool_size=16,
        max_overflow=256,
        # For programs that write without the lock file, such as a shell on the database.
        connect_args={"timeout": busy_timeout_seconds, "factory": _Connection},
        pool_timeout=30,
    )

    @event.listens_for(engine, "do_connect")
    def _make_file(*_: object) -> None:
        # SQLite would make a file that everybody can read; the files beside it take its mode.
        # Only one that is not there is opened here: to close a database's file gives up the locks
        # that SQLite holds on it in this process, and another process would delete the log in use.
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if _left_open and _identity(path) in _left_open:
            raise ForkedProcess(
                f"this process was forked while its parent was writing to {path}: SQLite can't use"
                " that file here; fork again, or start the process without a fork"
            )

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
        raw.add(connection)

    @event.listens_for(engine, "close")
    def _closed(connection: Any, _: object) -> None:
        raw.discard(connection)

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
