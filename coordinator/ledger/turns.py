"""Turns of threads: whoever waits longest is next."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A lock that serves threads in the order in which they came; threading's own does not."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def take(self, timeout_seconds: float) -> bool:
        """Wait for the turn; False when it did not come in time."""
        mine = threading.Event()
        try:
            with self._inner:
                if not self._taken:
                    self._taken = True
                    return True
                self._waiting.append(mine)
            came = mine.wait(timeout_seconds)
        except BaseException:
            if not self._give_up(mine):
                self.give_back()
            raise
        return came or not self._give_up(mine)

    def give_back(self) -> None:
        """Hand the turn to whoever waits longest."""
        with self._inner:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False

    def _give_up(self, mine: threading.Event) -> bool:
        with self._inner:
            if mine.is_set():
                return False
            if mine in self._waiting:
                self._waiting.remove(mine)
            return True
