"""Read block ranges in spans that the endpoint accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from coordinator.domain.chain.events import EventBatch
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Unlinked

RANGE_MAX: Final = 5000
# A range's events are held at once: 20 MB of them.
_EVENTS_AT_ONCE: Final = 10_000
# Nothing is known yet of how busy the blocks are.
_RANGE_FIRST: Final = 64


@dataclass(slots=True)
class Span:
    """The number of blocks to ask for at once: halved by a refusal, doubled by an answer.

    It stays between one block and RANGE_MAX, and where many events are, below that, so that the
    memory for them does not grow with the past.
    """

    blocks: int | None = None

    def each(
        self, read: Callable[[int, int], EventBatch], *, after: int, to: int
    ) -> Iterator[EventBatch]:
        """Yield range after range up to block ``to``, by ``read(after, until)``."""
        while after < to:
            batch = self.read(partial(read, after), after=after, to=to)
            yield batch
            after = batch.to.number

    def read(self, read: Callable[[int], EventBatch], *, after: int, to: int) -> EventBatch:
        """Call ``read(until)`` with the largest range from ``after`` on that the endpoint answers.

        ChainUnavailable when the endpoint refuses a single one.
        """
        most = self.blocks or min(_RANGE_FIRST, RANGE_MAX)
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
            fitting = (until - after) * _EVENTS_AT_ONCE // max(len(batch.events), 1)
            self.blocks = max(1, min(2 * most, RANGE_MAX, fitting))
            return batch
