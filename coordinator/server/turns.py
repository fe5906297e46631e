"""Give each key a share of connections and threads, so that one leaves the others their turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from coordinator.server.problems import ProblemError

# Requests of one key under way, those that wait for something too.
AT_ONCE_MAX: Final = 100
# Those that take a thread: others of the same key wait for them, at no cost.
WORKING_MAX: Final = 8
# Of the process, for all keys.
THREADS: Final = 100
_RETRY_SECONDS: Final = 2


class Turns:
    """Requests under way in this process, by key; used in its event loop alone."""

    def __init__(self, at_once: int = AT_ONCE_MAX, working: int = WORKING_MAX) -> None:
        self._at_once = at_once
        self._working = working
        self._under_way: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    @contextmanager
    def admitted(self, key_id: str) -> Iterator[None]:
        """Count a request; ProblemError 429 when as many of the key are under way as may be."""
        if self._under_way[key_id] >= self._at_once:
            raise ProblemError(
                429,
                f"at most {self._at_once} requests of one key may be under way at once",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        self._under_way[key_id] += 1
        try:
            yield
        finally:
            self._under_way[key_id] -= 1
            if not self._under_way[key_id]:
                del self._under_way[key_id]
                self._turns.pop(key_id, None)

    @asynccontextmanager
    async def working(self, key_id: str) -> AsyncIterator[None]:
        """Wait until the key has a thread to spare; within ``admitted``."""
        turn = self._turns.setdefault(key_id, asyncio.Semaphore(self._working))
        async with turn:
            yield
