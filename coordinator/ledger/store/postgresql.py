"""PostgreSQL: writers of every process and host queue on one advisory lock of the database."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coordinator.domain.errors import CommitUnknown, ConfigurationError, LedgerUnavailable
from coordinator.ledger.store.database import Stamp
from coordinator.ledger.store.prepared import WAITING, Row
from coordinator.ledger.store.process_bound import Connected, Opened
from coordinator.ledger.store.turns import Turns

POSTGRESQL_VERSION_MIN: Final = 14
# Any number that no other program takes in the same database.
_WRITERS: Final = 0x0C00_4D1A_704B
# A host that vanished between two statements gives its lock back after this long, or two thirds of
# what others wait for it, so that one which stands still for a moment keeps it.
_IDLE_SECONDS: Final = 10
_CONNECT_SECONDS: Final = 10
_POOL_SIZE, _POOL_OVERFLOW = 8, 8
_NOTHING_WRITTEN: Final = "; nothing was written"

# Everything is set inside the transaction: poolers give the next one another session. The answer
# is the stamp: which database of which server it is, what was under way when the lock was there,
# and the transaction's number.
_WRITE: Final = f"""
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL lock_timeout = {{lock_timeout_ms}};
SELECT pg_advisory_xact_lock({_WRITERS});
SELECT concat(current_database(), ' ', pg_postmaster_start_time()),
    pg_snapshot_xmin(seen)::text::bigint, pg_snapshot_xmax(seen)::text::bigint,
    pg_current_xact_id()::text::bigint,
    set_config('idle_in_transaction_session_timeout', '{{idle_ms}}', true),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
FROM pg_current_snapshot() AS seen
"""
_STAMP_VALUES: Final = 4
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_CLOCK: Final = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class PostgresqlDatabase(Connected):
    """A PostgreSQL database, version 14 or later, shared by any number of hosts.

    A write begins by taking the lock that all writers take, so it sees whatever was committed
    before it, and what it reads can't change before its commit. PostgreSQL serves the lock in the
    order of asking; threads of one process take turns before they ask.
    """

    many_hosts = True

    def __init__(self, url: URL, *, lock_timeout_seconds: int) -> None:
        self._name = _name_of(url)
        self._opened = Opened(f"the database {self._name}")
        self._timeout = lock_timeout_seconds
        self._turns = Turns()
        self._raw: set[psycopg.Connection[Any]] = set()
        # How the write that has the turn began.
        self._stamp: tuple[Any, ...] = ()
        self._engine = _engine(url, self._name, self._raw)
        super().__init__()

    @property
    def name(self) -> str:
        return self._name

    @property
    def engine(self) -> Engine:
        return self._engine

    def copy_to(self, path: Path) -> None:
        raise ConfigurationError(
            "a PostgreSQL database is backed up with pg_dump or point-in-time recovery"
        )

    def exists(self) -> bool:
        return True

    def check(self) -> None:
        self._opened.check()

    def here(self) -> bool:
        return self._opened.here()

    def now_ms(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql(_CLOCK).scalar_one())

    def now(self) -> int:
        with self._faults_named(), self._using(lambda: _CLOCK) as (_, answer):
            return int(answer[0]) // 1000

    def close(self) -> None:
        if self.here():
            self._opened.close()
            self._engine.dispose()

    def disconnect(self) -> None:
        self._engine.dispose()

    def disown(self) -> None:
        self._turns = Turns()
        # Whatever still speaks to the parent's sessions speaks to nobody.
        nobody = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for raw in self._raw:
            with contextlib.suppress(psycopg.Error, OSError):
                os.dup2(nobody, raw.fileno(), inheritable=False)
        os.close(nobody)

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        self.check()
        deadline = time.monotonic() + self._timeout
        mine = threading.Event()
        try:
            if not self._turns.take(mine, self._timeout):
                raise LedgerUnavailable(self._locked_by("other threads of this process"))
            with (
                self._faults_named(_NOTHING_WRITTEN),
                self._using(lambda: self._begin(deadline)) as (connection, stamp),
                _rolled_back_on_fault(connection),
            ):
                self._stamp = stamp
                yield connection
                self._commit(connection)
        finally:
            self._turns.give_back(mine)

    def stamp(self, connection: Connection) -> Stamp:
        server, oldest_running, next_completed, own = self._stamp[:_STAMP_VALUES]
        # Nothing else was under way: whoever writes after this one takes the next number.
        alone = oldest_running == next_completed == own
        return Stamp((server, own), (server, own + 1) if alone else None)

    def in_one_go(self, connection: Connection) -> contextlib.AbstractContextManager[object]:
        connection.info[WAITING] = []
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with self._faults_named(), self._using(lambda: _READ) as (connection, _):
            try:
                yield connection
            finally:
                _roll_back(connection)

    def glance(self, statement: str) -> Row:
        with self._faults_named(), self._using(lambda: statement) as (_, answer):
            return answer

    @contextlib.contextmanager
    def _using(self, first: Callable[[], str]) -> Iterator[tuple[Connection, tuple[Any, ...]]]:
        """A connection with the row that the last of its first statements answers, if any does.

        One that was cut while nobody used it is noticed by these statements and replaced.
        """
        self.check()
        with ExitStack() as stack:
            stack.enter_context(self.connected())
            connection = stack.enter_context(self._engine.connect())
            try:
                answer = _answer(connection, first())
            except psycopg.OperationalError as fault:
                if not _raw(connection).closed:
                    raise
                connection.invalidate(fault)
                stack.close()
                stack.enter_context(self.connected())
                connection = stack.enter_context(self._engine.connect())
                answer = _answer(connection, first())
            yield connection, answer

    def _begin(self, deadline: float) -> str:
        idle_ms = max(_IDLE_SECONDS * 1000, self._timeout * 2000 // 3)
        return _WRITE.format(lock_timeout_ms=_milliseconds_until(deadline), idle_ms=idle_ms)

    def _commit(self, connection: Connection) -> None:
        self.check()
        raw = _raw(connection)
        waiting = connection.info.pop(WAITING, [])
        texts, values = [text for text, _ in waiting], [v for _, given in waiting for v in given]
        # Values within the text: all is one message, and the server wakes up once.
        cursor = psycopg.ClientCursor(raw)
        try:
            cursor.execute(";\n".join((*texts, "COMMIT")), values)
            while cursor.nextset():
                pass
        except psycopg.Error as fault:
            if fault.diag.severity_nonlocalized == "ERROR" and not raw.closed:
                raise
            connection.invalidate()
            raise CommitUnknown(
                f"the database {self._name} was cut off while it committed: this may or may not"
                " have been written; ask again with the same idempotency key"
            ) from fault
        if cursor.statusmessage != "COMMIT":
            # What a statement that failed, and whose fault was swallowed, leads to.
            raise LedgerUnavailable(f"the database {self._name} refused it{_NOTHING_WRITTEN}")

    @contextlib.contextmanager
    def _faults_named(self, consequence: str = "") -> Iterator[None]:
        try:
            yield
        except (DBAPIError, psycopg.Error) as fault:
            # A forked child has nobody to speak to.
            self.check()
            said = fault.orig if isinstance(fault, DBAPIError) else fault
            if _is_ours(said):
                raise
            if isinstance(said, psycopg.errors.LockNotAvailable):
                raise LedgerUnavailable(self._locked_by("another process")) from fault
            raise self._unusable(said, consequence) from fault
        except SQLAlchemyError as fault:
            raise self._unusable(fault, consequence) from fault

    def _unusable(self, fault: BaseException | None, consequence: str) -> LedgerUnavailable:
        text = f"the database {self._name} can't be used: {_message(fault)}{consequence}"
        return LedgerUnavailable(text)

    def _locked_by(self, whom: str) -> str:
        return (
            f"the database {self._name} was locked by {whom} for {self._timeout} s"
            f"{_NOTHING_WRITTEN}"
        )


def _name_of(url: URL) -> str:
    hosts = url.query.get("host", url.host or "localhost")
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    database = url.database
    if not database:
        raise ConfigurationError(
            "COORDINATOR_DATABASE_URL must name a database: postgresql://USER@HOST/DATABASE"
        )
    if "@" in host + database:
        # Part of a password, most likely: it must not be taken for a name and shown.
        raise ConfigurationError(
            "COORDINATOR_DATABASE_URL is ambiguous: write @ in user and password as %40"
        )
    return f"{host}/{database}"


def _engine(url: URL, name: str, raw: set[psycopg.Connection[Any]]) -> Engine:
    settings = {
        "application_name": f"coordinator {os.getpid()} {socket.gethostname()}"[:63],
        "connect_timeout": str(_CONNECT_SECONDS),
        "keepalives": "1",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "2",
        "tcp_user_timeout": str(_CONNECT_SECONDS * 1000),
        # A standby would answer reads with the past and refuse every decision.
        "target_session_attrs": "read-write",
    }
    chosen = {key: value for key, value in settings.items() if key not in url.query}
    try:
        make_conninfo(**chosen, **{key: "" for key in url.query})
    except psycopg.ProgrammingError as fault:
        raise ConfigurationError(f"COORDINATOR_DATABASE_URL: {_message(fault)}") from None
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        # Transactions are begun by hand: the driver's own begin would be a round trip more.
        isolation_level="AUTOCOMMIT",
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=30,
        use_native_hstore=False,
        # A pooler's next session would not know what was prepared in the last one.
        connect_args={**chosen, "prepare_threshold": None},
    )

    @event.listens_for(engine, "connect")
    def _check_version(connection: Any, _: object) -> None:
        major = connection.info.server_version // 10_000
        if major < POSTGRESQL_VERSION_MIN:
            raise ConfigurationError(
                f"the database {name} is PostgreSQL {major}; {POSTGRESQL_VERSION_MIN} is the"
                " oldest that is supported"
            )
        raw.add(connection)

    @event.listens_for(engine, "close")
    def _closed(connection: Any, _: object) -> None:
        raw.discard(connection)

    return engine


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)


def _answer(connection: Connection, statements: str) -> tuple[Any, ...]:
    cursor = _raw(connection).execute(statements)
    while cursor.nextset():
        pass
    row: tuple[Any, ...] | None = cursor.fetchone() if cursor.description else None
    return row or ()


@contextlib.contextmanager
def _rolled_back_on_fault(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: Connection) -> None:
    # After some faults the transaction is over or the connection gone: the fault is what to tell.
    with contextlib.suppress(SQLAlchemyError):
        connection.info.pop(WAITING, None)
        connection.exec_driver_sql("ROLLBACK")


def _is_ours(fault: BaseException | None) -> bool:
    """Whether a fault tells of a mistake in this program rather than of the database's state."""
    if isinstance(fault, (psycopg.IntegrityError, psycopg.DataError)):
        return True
    unsent = isinstance(fault, psycopg.ProgrammingError) and fault.sqlstate is None
    return unsent or isinstance(fault, psycopg.errors.SyntaxError)


def _message(fault: BaseException | None) -> str:
    if isinstance(fault, psycopg.Error) and fault.diag.message_primary:
        return fault.diag.message_primary
    lines = [line.strip(" \t-") for line in str(fault).splitlines() if line.strip()]
    # Where several addresses were tried, the first line only says so.
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else "–"


def _milliseconds_until(deadline: float) -> int:
    # Zero would mean for ever.
    return max(1, round((deadline - time.monotonic()) * 1000))
