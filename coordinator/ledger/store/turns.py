"""A fair lock for threads: whoever waits longest is next."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A lock that serves threads in the order in which they came; threading's own does not.

    Whoever asks names its request by an event of its own, and gives back by the same name in a
    ``finally`` around the asking: an interrupt may come at any point of it.
    """

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._holder: threading.Event | None = None
        self._waiting: deque[threading.Event] = deque()

    def take(self, mine: threading.Event, timeout_seconds: float) -> bool:
        """Wait for the turn; False when it did not come in time."""
        with self._inner:
            if self._holder is None:
                self._holder = mine
                return True
            self._waiting.append(mine)
        return mine.wait(timeout_seconds)

    def give_back(self, mine: threading.Event) -> None:
        """Hand the turn to whoever waits longest, or stop waiting for it; harmless without."""
        with self._inner:
            if self._holder is mine:
                self._holder = self._waiting.popleft() if self._waiting else None
                if self._holder is not None:
                    self._holder.set()
            elif mine in self._waiting:
                self._waiting.remove(mine)
