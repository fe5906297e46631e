"""Delivery of notices through apprise; each target has a thread of its own.

What is guaranteed: each target gets each notice at least once while it takes one within TRIES_MAX
tries (30 s after the first, then twice as long each time, at most an hour: about three hours in
all). A notice that one target refused is tried again with that target alone; only a process that
ends between a target's yes and the row's update has it told twice. Order is that of the notices,
but for what is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from coordinator.alerts.targets import Target
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.notices import KeptNotice, Notice, Severity
from coordinator.domain.ports import Clock, Ticks
from coordinator.ledger.tx.changes import ChangeFeed, Changes
from coordinator.ledger.tx.notices import NoticeBook

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30
RETRY_SECONDS_MAX: Final = 3600
# Who has not answered by then has failed; the answer that comes later is not waited for.
ANSWER_SECONDS: Final = 60
_TEST_SECONDS: Final = 15
_STOP_SECONDS: Final = 3
# Between two looks for notices: the least, while something is on its way or the database is away,
# and where nothing is due before, however the clock was set meanwhile.
_LOOK_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 1.0
_LOOK_SECONDS_MAX: Final = 15.0
_AT_ONCE: Final = 200

Targets = Callable[[], Iterable[tuple[str, str | None]]]
"""What may be shown of each target, with its URL; None where this process lacks it."""


def next_try(tries: int, now: int) -> int:
    """Return when a notice is due again after ``tries`` failures."""
    return now + int(min(RETRY_SECONDS * 2 ** min(tries, 20), RETRY_SECONDS_MAX))


@dataclass(slots=True)
class _Open:
    """A notice that some targets have not answered yet."""

    kept: KeptNotice
    since: float
    waiting: set[str]
    faults: list[str] = field(default_factory=list)


class Delivery:
    """Hands due notices to every target of ``targets``, while ``acting`` says so.

    Nothing here runs in a decision: notices are read from the database by a thread of its own, when
    the ledger tells of a change or one is due for another try.
    """

    def __init__(
        self,
        book: NoticeBook,
        targets: Targets,
        clock: Clock,
        *,
        acting: Callable[[], bool] = lambda: True,
        ticks: Ticks = time.monotonic,
    ) -> None:
        self._book = book
        self._urls = targets
        self._clock = clock
        self._acting = acting
        self._ticks = ticks
        self._targets: dict[str, Target] = {}
        self._open: dict[int, _Open] = {}
        # Who has taken a notice that another target is still tried with.
        self._took: dict[int, set[str]] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._changes: ChangeFeed | None = None
        self._thread: threading.Thread | None = None

    def start(self, changes: ChangeFeed) -> None:
        """Deliver in a background thread until ``stop``; a second start changes nothing."""
        if self._thread is None:
            changes.subscribe(self._look)
            self._changes = changes
            self._thread = threading.Thread(target=self._run, name="coordinator-delivery")
            self._thread.daemon = True
            self._thread.start()

    def stop(self) -> None:
        """Wait a few seconds for what is on its way; what is not answered is told again later."""
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._changes is not None:
            self._changes.unsubscribe(self._look)
        self.wait(_STOP_SECONDS)
        with self._changed:
            self._open.clear()
            targets = list(self._targets.values())
            self._targets.clear()
        for target in targets:
            target.stop()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the answers to what was handed out; False when some are missing then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout_seconds)

    def hand_out(self) -> None:
        """Give every due notice to the targets that have not taken it yet; waits for nobody."""
        urls = {url: shown for shown, url in self._urls() if url is not None}
        if not urls:
            return
        self._give_up_waiting()
        with self._changed:
            besides = list(self._open)
        for kept in self._book.due(self._clock(), _AT_ONCE, besides=besides):
            with self._changed:
                left = set(urls) - self._took.get(kept.seq, set())
                self._open[kept.seq] = _Open(kept, self._ticks(), set(left))
                opened = self._open[kept.seq]
            if not left:
                self._settle(opened)
            for url in sorted(left):
                self._target(urls[url], url).put(kept.seq, kept.notice)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self._news.clear()
            if not self._stopping.is_set():
                self._news.wait(self._deliver())

    def _look(self, changes: Changes | None) -> None:
        self._news.set()

    def _deliver(self) -> float:
        """Hand out what is due; return the seconds until something may be, if nothing is told."""
        try:
            if self._acting():
                self.hand_out()
                return self._seconds_left()
        except CoordinatorError as fault:
            log.warning("delivery_waits reason=%s", fault)
            return _POLL_SECONDS
        except Exception as fault:
            log.warning("delivery_waits reason=%s", type(fault).__name__)
            return _POLL_SECONDS
        return _LOOK_SECONDS_MAX

    def _seconds_left(self) -> float:
        with self._changed:
            if self._open:
                return _POLL_SECONDS
        due_at = self._book.next_due() if any(url for _, url in self._urls()) else None
        if due_at is None:
            return _LOOK_SECONDS_MAX
        return min(max(0.0, due_at - self._clock()), _LOOK_SECONDS_MAX)

    def _target(self, shown: str, url: str) -> Target:
        if url not in self._targets:
            self._targets[url] = Target(shown, url, wanted=self._wanted, answer=self._answered)
        return self._targets[url]

    def _wanted(self, url: str, seq: int) -> bool:
        with self._changed:
            return seq in self._open and url in self._open[seq].waiting

    def _answered(self, url: str, seq: int, fault: str | None) -> None:
        with self._changed:
            if seq not in self._open or url not in self._open[seq].waiting:
                return
            notice = self._open[seq]
            notice.waiting.discard(url)
            if fault is None:
                self._took.setdefault(seq, set()).add(url)
            else:
                notice.faults.append(fault)
            if notice.waiting:
                return
        self._settle(notice)

    def _give_up_waiting(self) -> None:
        late = self._ticks() - ANSWER_SECONDS
        with self._changed:
            stuck = [one for one in self._open.values() if one.waiting and one.since < late]
            for notice in stuck:
                notice.waiting.clear()
                notice.faults.append(f"no answer within {ANSWER_SECONDS} s")
        for notice in stuck:
            self._settle(notice)

    def _settle(self, notice: _Open) -> None:
        """Keep what became of a notice that every target has answered."""
        seq, again = notice.kept.seq, True
        try:
            if notice.faults:
                fault, now = "; ".join(sorted(notice.faults)), self._clock()
                again = self._book.failed(seq, fault, next_try(notice.kept.tries, now))
                log.warning("notice_not_delivered seq=%s again=%s fault=%s", seq, again, fault)
            else:
                self._book.delivered(seq, self._clock())
                again = False
        except CoordinatorError as unwritten:
            log.warning("delivery_waits reason=%s", unwritten)
        with self._changed:
            self._open.pop(seq, None)
            if not again:
                self._took.pop(seq, None)
            self._changed.notify_all()


def send_test(targets: Sequence[tuple[str, str | None]], now: int) -> list[tuple[str, str | None]]:
    """Send one notice to every target at once; what is shown of each, with its fault or None."""
    notice = Notice("test", now, "test", Severity.INFO, "test", "this is a test of notifications")
    answers: SimpleQueue[tuple[int, str | None]] = SimpleQueue()
    found: dict[int, str | None] = {}
    for number, (shown, url) in enumerate(targets):
        if url is None:
            found[number] = f"{shown}: this process lacks its URL"
            continue
        one = Target(
            shown,
            url,
            wanted=lambda url, seq: True,
            answer=lambda url, seq, fault: answers.put((seq, fault)),
        )
        one.put(number, notice)
        one.stop()
    deadline = time.monotonic() + _TEST_SECONDS
    while len(found) < len(targets):
        try:
            number, fault = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        found[number] = fault
    late = f"no answer within {_TEST_SECONDS} s"
    return [(shown, found.get(n, f"{shown}: {late}")) for n, (shown, _) in enumerate(targets)]
