"""Read block ranges in spans that the endpoint accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.domain.chain.events import EventBatch
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Unlinked

RANGE_MAX: Final = 5000


@dataclass(slots=True)
class Span:
    """The number of blocks to ask for at once: halved by a refusal, doubled by an answer.

    It stays between one block and RANGE_MAX.
    """

    blocks: int | None = None

    def read(self, read: Callable[[int], EventBatch], *, after: int, to: int) -> EventBatch:
        """Call ``read(until)`` with the largest range from ``after`` on that the endpoint answers.

        ChainUnavailable when the endpoint refuses a single one.
        """
        most = self.blocks or RANGE_MAX
        while True:
            until = min(after + most, to)
            try:
                batch = read(until)
            except Unlinked:
                raise
            except ChainUnavailable:
                if until == after + 1:
                    raise
                most = (until - after) // 2
                continue
            self.blocks = min(2 * most, RANGE_MAX)
            return batch
