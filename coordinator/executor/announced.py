"""Judge what a subscription tells of new heads: it spares looks only while it is right."""

from __future__ import annotations

from collections import deque
from typing import Final

from coordinator.domain.chain.events import Block

_KEPT: Final = 64
# A subscription and an answer that cross on their way.
_LATE_SECONDS: Final = 0.5


class AnnouncedBlocks:
    """The heads that a subscription announced. None of them is believed: an endpoint is asked.

    ``is_trusted`` while each new head that was followed had been announced. A head that was found
    without it, or a connection that ended, takes the trust away until the next that was.
    """

    def __init__(self) -> None:
        self.is_trusted = False
        self._newest: tuple[int, str] | None = None
        self._hashes: deque[str] = deque(maxlen=_KEPT)

    def announced(self, number: int, block_hash: str, *, head: Block | None, since: float) -> None:
        """Note what was told, ``since`` seconds after ``head`` was followed."""
        self._newest = (number, block_hash)
        self._hashes.append(block_hash)
        if head is not None and block_hash == head.hash and since <= _LATE_SECONDS:
            self.is_trusted = True

    def followed(self, head: Block) -> None:
        """Note a head that is newer than the one that was followed before."""
        self.is_trusted = head.hash in self._hashes

    def ended(self) -> None:
        """Note that nothing more is told."""
        self.is_trusted, self._newest = False, None
        self._hashes.clear()

    def tells_more_than(self, head: Block) -> bool:
        """Whether another head was announced since, at the same height or above."""
        if self._newest is None:
            return False
        number, block_hash = self._newest
        return number >= head.number and block_hash != head.hash
