"""Call observers with each event after its commit, from a thread of their own.

They can neither change nor delay a decision. Whoever decides puts an event into a queue and goes
on; a queue that is full drops it and counts it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Final

from coordinator.domain.errors import CoordinatorError, InvalidRequest
from coordinator.domain.observed import KINDS, Event

log = logging.getLogger(__name__)

QUEUE_MAX: Final = 10_000
_POLL_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 1.0

Callback = Callable[[Event], object]
Alerts = Callable[[int], Sequence[tuple[int, Event]]]
"""The alerts after a number, oldest first, each with its number."""


class Observers:
    """Callbacks by kind, one bounded queue, one daemon thread that calls them in order.

    Alerts are read from the database, so that those of other processes are told as well, some
    time later; everything else is what this process did.
    """

    def __init__(self, alerts: Alerts, last_alert: Callable[[], int]) -> None:
        self._alerts = alerts
        self._last_alert = last_alert
        self._told_alert: int | None = None
        self._callbacks: dict[str, list[Callback]] = {kind: [] for kind in KINDS}
        self._queue: Queue[Event] = Queue(QUEUE_MAX)
        self._failed: set[str] = set()
        self._mutex = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, callback: Callback, kinds: Iterable[str]) -> None:
        """Call it with every later event of ``kinds``; InvalidRequest for an unknown kind."""
        kinds = tuple(kinds)
        if not kinds or not set(kinds) <= set(KINDS):
            raise InvalidRequest(f"events must be among {', '.join(KINDS)}")
        if "alert" in kinds and self._told_alert is None:
            self._told_alert = self._last_alert()
        with self._mutex:
            for kind in kinds:
                self._callbacks[kind] = [*self._callbacks[kind], callback]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="coordinator-observers", daemon=True
                )
                self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event for the observers; never waits, never raises."""
        if not self._callbacks.get(event.kind):
            return
        try:
            self._queue.put_nowait(event)
        except Full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("observers_too_slow dropped=1")

    def stop(self) -> None:
        """Stop calling observers; wait at most a second for a running callback."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        look_at = 0.0
        while not self._stopping.is_set():
            with suppress(Empty):
                self._tell(self._queue.get(timeout=_POLL_SECONDS))
            if time.monotonic() >= look_at:
                self._look_for_alerts()
                look_at = time.monotonic() + _POLL_SECONDS

    def _look_for_alerts(self) -> None:
        if self._told_alert is None:
            return
        try:
            found = self._alerts(self._told_alert)
        except CoordinatorError:
            return  # the database is away: they are still there when it is back
        for number, event in found:
            self._told_alert = number
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for callback in self._callbacks[event.kind]:
            if self._stopping.is_set():
                return
            try:
                callback(event)
            except BaseException:
                if event.kind not in self._failed:
                    self._failed.add(event.kind)
                    log.exception("observer_failed kind=%s", event.kind)
