"""Limit the long polls of one key, so that they leave connections to others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from coordinator.server.problems import ProblemError

POLLS_MAX: Final = 100
_RETRY_SECONDS: Final = 5


class Polls:
    """Long polls under way in this process, by key."""

    def __init__(self, most: int = POLLS_MAX) -> None:
        self._most = most
        self._mutex = threading.Lock()
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def waiting(self, key_id: str) -> Iterator[None]:
        """Count one while it waits; ProblemError 429 when as many as may do already."""
        with self._mutex:
            if self._waiting[key_id] >= self._most:
                raise ProblemError(
                    429,
                    f"at most {self._most} requests of one key wait at once",
                    headers={"Retry-After": str(_RETRY_SECONDS)},
                )
            self._waiting[key_id] += 1
        try:
            yield
        finally:
            with self._mutex:
                self._waiting[key_id] -= 1
                if not self._waiting[key_id]:
                    del self._waiting[key_id]
