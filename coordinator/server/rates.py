"""Limit how often one key may ask, so that one runaway agent leaves the others their turn."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from coordinator.server.problems import ProblemError

PER_SECOND: Final = 100


class Rates:
    """Requests of each key in a moving window of one second, counted in this process."""

    def __init__(self, per_second: int = PER_SECOND) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def admit(self, key_id: str) -> None:
        """Count one request; ProblemError 429 with Retry-After when there were too many."""
        if self._limiter.hit(self._item, key_id):
            return
        again = self._limiter.get_window_stats(self._item, key_id).reset_time - time.time()
        raise ProblemError(
            429,
            f"at most {self._item.amount} requests a second for one key",
            headers={"Retry-After": str(max(1, math.ceil(again)))},
        )
