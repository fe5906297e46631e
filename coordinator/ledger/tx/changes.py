"""Notice what changed in the ledger, in whichever process: one reader for all who wait in this one.

Every change of a purchase, an order or a limit has its row in the audit log, so the rows after the
last one that was read name all that changed. Notices, which need no row there, are told as NOTICES.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from sqlalchemy import bindparam, literal_column, select

from coordinator.domain.errors import CoordinatorClosed, ForkedProcess, LedgerUnavailable
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared

log = logging.getLogger(__name__)

# Another process's commits are seen after half of it on average. Whoever does one thing soon does
# another: only the first after a quiet time is seen later.
_BEAT_SECONDS: Final = 0.2
_QUIET_BEAT_SECONDS: Final = 0.3
_QUIET_AFTER_SECONDS: Final = 5.0
_BEAT_SECONDS_MAX: Final = 5.0
# So many rows name nearly everything: whoever waits looks.
_ROWS_MAX: Final = 5_000
_NEWEST: Final = (
    "SELECT coalesce((SELECT max(seq) FROM audit), 0), coalesce((SELECT max(seq) FROM notices), 0)"
)
_SUBJECTS: Final = Prepared(
    select(t.audit.c.subject)
    .where(t.audit.c.seq > bindparam("after"))
    .order_by(t.audit.c.seq)
    .limit(literal_column(str(_ROWS_MAX)))
)

Changes = frozenset[str]
"""Subjects of audit rows: ids of purchases, approvals, orders …; NOTICES."""

NOTICES: Final = "notices"

Changed = Callable[[Changes | None], None]


class _Newest(NamedTuple):
    """The numbers of the newest rows; 0 without any."""

    audit: int
    notice: int


_EVERYTHING: Final = _Newest(-1, -1)


class ChangeFeed:
    """Tells its subscribers, in a thread of its own, which subjects have rows in the audit log.

    The thread lives while there is a subscriber. It reads the ends of two indices five times a
    second, three times after a quiet time, and at once after ``look``. None instead of subjects
    says that anything may have changed. While the database is away it is asked again, at most every
    five seconds; so it is when a subscriber raises LedgerUnavailable.
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
        self._changed_at = float("-inf")

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
        beat, failing = _BEAT_SECONDS, False
        while self._goes_on():
            asked = self._wanted.wait(beat)
            self._wanted.clear()
            try:
                self._tell_changes(asked)
                beat, failing = self._beat(), False
            except (CoordinatorClosed, ForkedProcess):
                return
            except Exception as fault:
                # Whatever it is, those who wait are served again once it is over.
                if not failing:
                    unknown = not isinstance(fault, LedgerUnavailable)
                    log.warning("changes_not_read reason=%s", fault, exc_info=unknown)
                self._seen, failing = _EVERYTHING, True
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
        if changes is None or changes:
            self._changed_at = time.monotonic()
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

    def _beat(self) -> float:
        quiet = time.monotonic() - self._changed_at >= _QUIET_AFTER_SECONDS
        return _QUIET_BEAT_SECONDS if quiet else _BEAT_SECONDS

    def _read(self, seen: _Newest) -> tuple[Changes | None, _Newest]:
        """Return what changed after the rows ``seen``, and the newest rows' numbers."""
        newest = _Newest(*self._database.glance(_NEWEST))
        if newest == seen:
            return frozenset(), seen
        if seen == _EVERYTHING or newest.audit < seen.audit:
            return None, newest
        told = {NOTICES} if newest.notice != seen.notice else set[str]()
        if newest.audit == seen.audit:
            return frozenset(told), newest
        with self._database.read() as connection:
            # Those that came meanwhile are told once more the next time.
            rows = _SUBJECTS.rows(connection, {"after": seen.audit})
        return (
            None if len(rows) == _ROWS_MAX else frozenset(told).union(r[0] for r in rows)
        ), newest
