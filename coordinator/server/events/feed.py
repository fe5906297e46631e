"""Read public events once for every stream of this process, and keep the newest for all.

A stream has no queue: it asks for what came after its own position. What is not kept any more is
read again from the log, so a slow reader costs no memory and loses nothing.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.domain.events.event import PublicEvent
from coordinator.wiring import Wiring

_KEPT_MAX: Final = 2_000

Wake = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is sent: written as JSON once for all streams."""

    event: PublicEvent
    json: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The events in (asked, position]; ``more`` when there are others already."""

    events: Sequence[Told]
    position: int
    more: bool


class EventFeed:
    """The events of one process; it reads while somebody listens."""

    def __init__(self, wiring: Callable[[], Wiring]) -> None:
        self._wiring = wiring
        self._mutex = threading.Lock()
        self._wakes: list[Wake] = []
        self._kept: list[Told] = []
        self._from = self._to = 0
        self._key_ends: dict[str, int] = {}

    def subscribe(self, wake: Wake) -> None:
        """Call ``wake``, in another thread, whenever there are new events."""
        wiring = self._wiring()
        head = wiring.events.head()
        with self._mutex:
            first = not self._wakes
            self._wakes = [*self._wakes, wake]
            if first:
                self._kept, self._from, self._to = [], head, head
                wiring.changes.subscribe(self._look)

    def unsubscribe(self, wake: Wake) -> None:
        """Call it no more; without anybody nothing is read."""
        with self._mutex:
            self._wakes = [one for one in self._wakes if one != wake]
            if not self._wakes:
                self._wiring().changes.unsubscribe(self._look)

    def wake_all(self) -> None:
        """Have every stream look at what it waits for."""
        with self._mutex:
            wakes = self._wakes
        for wake in wakes:
            wake()

    def kept(self, after: int) -> Batch | None:
        """Return what is kept after a position; None when some of it has to be read again."""
        with self._mutex:
            if after < self._from:
                return None
            first = bisect_right(self._kept, after, key=lambda told: told.event.seq)
            return Batch(self._kept[first:], max(after, self._to), more=False)

    def read(self, after: int) -> Batch:
        """Read a page after a position from the log."""
        page = self._wiring().events.read(after)
        return Batch(list(map(_told, page.events)), page.position, page.more)

    def head(self) -> int:
        """Return the position of the newest event."""
        return self._wiring().events.head()

    def key_end(self, key_id: str) -> int | None:
        """Return the second at which a key was revoked or ends since it was rotated."""
        with self._mutex:
            return self._key_ends.get(key_id)

    def _look(self, changed: frozenset[str] | None) -> None:
        """Read on, in the thread of the process's one reader of the log."""
        more = True
        while more:
            page = self._wiring().events.read(self._to)
            with self._mutex:
                self._key_ends |= page.key_ends
                self._kept += map(_told, page.events)
                self._to = page.position
                if len(self._kept) > _KEPT_MAX:
                    self._from = self._kept[-_KEPT_MAX - 1].event.seq
                    del self._kept[:-_KEPT_MAX]
            if page.position > page.after:
                self.wake_all()
            more = page.more


def _told(event: PublicEvent) -> Told:
    return Told(event, event.json)
