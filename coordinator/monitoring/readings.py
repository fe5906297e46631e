"""Read the books' figures for whoever asks, without waiting for a database that hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from coordinator.domain.ports import Ticks
from coordinator.ledger.tx.figures import Figures
from coordinator.wiring import Wiring

FRESH_SECONDS: Final = 2.0
WAIT_SECONDS: Final = 2.0


class Readings:
    """The figures as they were at most two seconds ago; None where the database does not answer.

    At most one thread reads. One that hangs is waited for by nobody longer than two seconds, and no
    other is started beside it.
    """

    def __init__(self, opened: Callable[[], Wiring], *, ticks: Ticks = time.monotonic) -> None:
        self._opened = opened
        self._ticks = ticks
        self._mutex = threading.Lock()
        self._last: Future[Figures] | None = None
        self._done_at = float("-inf")

    def read(self) -> Figures | None:
        """Return the figures, or None after two seconds or a fault."""
        try:
            return self._reading().result(WAIT_SECONDS)
        except Exception:
            return None

    async def aread(self) -> Figures | None:
        """Return the figures without taking a thread of the caller's."""
        future = asyncio.wrap_future(self._reading())
        try:
            # Others wait for the same reading: the timeout must not cancel it.
            return await asyncio.wait_for(asyncio.shield(future), WAIT_SECONDS)
        except Exception:
            return None

    def _reading(self) -> Future[Figures]:
        """The reading under way, one that is fresh, or one that begins now."""
        with self._mutex:
            last = self._last
            if last is not None:
                fresh = self._ticks() - self._done_at < FRESH_SECONDS
                if not last.done() or (fresh and last.exception() is None):
                    return last
            future = self._last = Future()
            # As a daemon: a database that hangs must not keep the process from ending.
            threading.Thread(
                target=self._read, args=(future,), name="coordinator-figures", daemon=True
            ).start()
            return future

    def _read(self, future: Future[Figures]) -> None:
        try:
            found = self._opened().figures.read()
        except BaseException as fault:
            self._done_at = self._ticks()
            future.set_exception(fault)
        else:
            self._done_at = self._ticks()
            future.set_result(found)
