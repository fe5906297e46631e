"""One database: short write transactions one at a time, snapshot reads, faults as one error."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from coordinator.ledger.store.prepared import Row

LOCK_TIMEOUT_SECONDS: Final = 15


class Stamp(NamedTuple):
    """The state of a database when a write transaction begins, and when it has committed.

    Where ``before`` equals the ``after`` of an earlier one that has committed, nobody has written
    since. An ``after`` of None equals nothing: others were writing at the same time.
    """

    before: Hashable
    after: Hashable | None


class Database(Protocol):
    """The interface of a database, the same on every kind.

    Faults are LedgerUnavailable in one sentence that names the database and never a password.
    """

    @property
    def name(self) -> str:
        """The file, or host and database: what people are told."""

    def copy_to(self, path: Path) -> None:
        """Write one consistent snapshot into the empty file ``path``; writers go on meanwhile.

        ConfigurationError for a database that has tools of its own for it.
        """

    @property
    def many_hosts(self) -> bool:
        """Whether several machines may use it, each with a clock and a policy file of its own."""

    @property
    def engine(self) -> Engine: ...

    def exists(self) -> bool:
        """False where the first use would make it."""

    def check(self) -> None:
        """Refuse a forked child (ForkedProcess) and any use after the close (CoordinatorClosed)."""

    def here(self) -> bool:
        """Return False in a process that was forked from the one that uses it."""

    def write(self) -> AbstractContextManager[Connection]:
        """One write transaction: committed at the end, rolled back on any exception.

        Nobody else writes from its begin to its commit, so what it reads can't change meanwhile.
        """

    def stamp(self, connection: Connection) -> Stamp:
        """The stamp of a write transaction in which nothing was done yet."""

    def in_one_go(self, connection: Connection) -> AbstractContextManager[object]:
        """Statements within it are sent with the commit, which must be next, and fail with it."""

    def read(self) -> AbstractContextManager[Connection]:
        """One consistent snapshot; never waits for writers."""

    def glance(self, statement: str) -> Row:
        """The row that one statement without values answers, in no transaction of its own.

        It costs a third of ``read``; () where there is no row.
        """

    def now_ms(self, connection: Connection) -> int:
        """The unix time in milliseconds by the clock that all users of the database share."""

    def now(self) -> int:
        """The unix second by the same clock, outside any transaction."""

    def close(self) -> None:
        """Give the connections back and refuse every later use; does nothing in a forked child."""
