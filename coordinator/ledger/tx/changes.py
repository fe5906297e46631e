"""Notice what changed in the ledger, in whichever process: one reader for all who wait in this one.

Every change of a purchase, an order or a limit has its row in the audit log, so the rows after the
last one that was read name all that changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, bindparam, literal_column, select

from coordinator.domain.errors import CoordinatorClosed, ForkedProcess, LedgerUnavailable
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared

log = logging.getLogger(__name__)

# Another process's commits are seen after half of it on average.
_BEAT_SECONDS: Final = 0.2
_BEAT_SECONDS_MAX: Final = 5.0
# So many rows name nearly everything: whoever waits looks.
_ROWS_MAX: Final = 5_000
_EVERYTHING: Final = -1
_READING: Final = -2
_NEWEST: Final = Prepared(
    select(t.audit.c.seq).order_by(t.audit.c.seq.desc()).limit(literal_column("1"))
)
_SUBJECTS: Final = Prepared(
    select(t.audit.c.subject)
    .where(t.audit.c.seq > bindparam("after"))
    .order_by(t.audit.c.seq)
    .limit(literal_column(str(_ROWS_MAX)))
)

Changes = frozenset[str]
"""Subjects of audit rows: ids of purchases, approvals, orders …"""

Changed = Callable[[Changes | None], None]


class ChangeFeed:
    """Tells its subscribers, in a thread of its own, which subjects have rows in the audit log.

    The thread lives while there is a subscriber. It reads one row of an index five times a second,
    and at once after ``look``. None instead of subjects says that anything may have changed. While
    the database is away it is asked again, at most every five seconds; so it is when a subscriber
    raises LedgerUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._subscribers: list[Changed] = []
        # Those that were not called yet: for them, anything may have changed.
        self._unserved: list[Changed] = []
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen = _EVERYTHING

    @contextmanager
    def watching(self, subject: str | None = None) -> Iterator[threading.Event]:
        """An event that is set when the subject may have changed; without one, after every look."""
        told = threading.Event()

        def tell(changes: Changes | None) -> None:
            if changes is None or subject is None or subject in changes:
                told.set()

        self.subscribe(tell)
        try:
            yield told
        finally:
            self.unsubscribe(tell)

    def subscribe(self, changed: Changed) -> None:
        """Call ``changed`` from now on; the first call comes at once, with None."""
        with self._mutex:
            if self._thread is None:
                self._seen = _EVERYTHING
                thread = threading.Thread(target=self._run, name="coordinator-changes", daemon=True)
                # It waits for the mutex. Where none can be started, nobody has subscribed.
                thread.start()
                self._thread = thread
            self._subscribers = [*self._subscribers, changed]
            self._unserved = [*self._unserved, changed]
        self._wanted.set()

    def unsubscribe(self, changed: Changed) -> None:
        """Call ``changed`` no more; a call that is under way goes on."""
        with self._mutex:
            self._subscribers = [one for one in self._subscribers if one != changed]
            self._unserved = [one for one in self._unserved if one != changed]
        self._wanted.set()

    def close(self) -> None:
        """Call nobody any more; returns when no call is under way."""
        with self._mutex:
            self._subscribers, self._unserved, thread = [], [], self._thread
        self._wanted.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def look(self) -> None:
        """Have subscribers called at once, even where nothing changed; does not wait for it."""
        self._wanted.set()

    def _run(self) -> None:
        beat = _BEAT_SECONDS
        while self._goes_on():
            asked = self._wanted.wait(beat)
            self._wanted.clear()
            try:
                self._tell_changes(asked)
                beat = _BEAT_SECONDS
            except (CoordinatorClosed, ForkedProcess):
                return
            except Exception as fault:
                # Whatever it is, those who wait are served again once it is over.
                if beat == _BEAT_SECONDS:
                    unknown = not isinstance(fault, LedgerUnavailable)
                    log.warning("changes_not_read reason=%s", fault, exc_info=unknown)
                self._seen = _EVERYTHING
                beat = min(beat * 2, _BEAT_SECONDS_MAX)

    def _goes_on(self) -> bool:
        with self._mutex:
            if not self._subscribers:
                self._thread = None
            return bool(self._subscribers)

    def _tell_changes(self, asked: bool) -> None:
        with self._mutex:
            subscribers, unserved = self._subscribers, self._unserved
            self._unserved = []
        # Whoever subscribes from here on is served in the next pass.
        changes, self._seen = self._read(self._seen)
        for changed in subscribers:
            if changed in unserved:
                self._tell(changed, None)
            elif asked or changes is None or changes:
                self._tell(changed, changes)

    def _tell(self, changed: Changed, changes: Changes | None) -> None:
        try:
            changed(changes)
        except (LedgerUnavailable, CoordinatorClosed, ForkedProcess):
            raise
        except Exception:
            # A fault of one subscriber must not leave the others waiting.
            log.exception("change_not_told")

    def _read(self, seen: int) -> tuple[Changes | None, int]:
        """Return the subjects of the rows after ``seen``, and the newest row's number."""
        with self._database.read() as connection:
            newest = _newest(connection)
            if newest == seen:
                return frozenset(), seen
            if seen < 0 or newest < seen:
                return None, newest
            rows = _SUBJECTS.rows(connection, {"after": seen})
            return (None if len(rows) == _ROWS_MAX else frozenset(row[0] for row in rows)), newest


def _newest(connection: Connection) -> int:
    row = _NEWEST.one(connection)
    return int(row[0]) if row else 0
