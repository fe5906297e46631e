"""When the executor looks at the chain next: as often as something depends on it, no oftener."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final

from coordinator.domain.ports import Observation, Ticks
from coordinator.executor.announced import AnnouncedBlocks

# Between two looks, and between two whole rounds although no look found anything.
_OPEN_SECONDS: Final = (3.0, 30.0)
_IDLE_SECONDS: Final = (14.0, 70.0)
_BUSY_ROUND_SECONDS: Final = 4.0
_LOCAL_SECONDS: Final = (0.1, 0.1)
_LOCAL_SECONDS_BUSY: Final = (0.1, 0.5)
# Between two rounds that read again what is final.
_FINAL_SECONDS: Final = 120.0
_FINAL_SECONDS_IDLE: Final = 300.0
# JSON-RPC calls of a round with nothing to do, and of one that reads again what is final.
_ROUND_CALLS: Final = 9
_FINAL_CALLS: Final = 8
# The words and codes of a Safe, its roles and its limits.
_STORAGE_CALLS: Final = 100
_DAY: Final = 86_400
# Where another executor acts.
_STANDBY_SECONDS: Final = 1.0
# Of a chain whose block time is not known yet.
_BLOCK_SECONDS: Final = 2.0
_BLOCK_SECONDS_MIN: Final = 0.2
_BLOCK_SECONDS_MAX: Final = 15.0
# A head is asked for this often, from when it is expected. The soonest that was seen may have been
# there a little before it was looked for: so the first look is early, and the second as much late.
_PART_OF_BLOCK: Final = 12
_EARLY_PART_OF_BLOCK: Final = 48
_HEADS_KEPT: Final = 16


class Pace(StrEnum):
    """Pace of the executor, by what depends on the chain.

    busy: something is signed or has to be · open: escrows are with providers · idle: nothing.
    """

    BUSY = "busy"
    OPEN = "open"
    IDLE = "idle"


class Tempo:
    """Spans between looks at the chain, by ``ticks``.

    A look costs one call: while busy it asks for the newest block, else for logs of ours since the
    books' block. What it finds makes a round due, and so does a span in which the chain was not
    followed, because an endpoint that stands still answers looks, too, and rounds at the head that
    it stands at. On a local chain calls cost nothing.
    While a subscription announces each head, the newest block is asked for when one is announced.
    ``poll_seconds`` is the least span between two looks of somebody who pays by the call.
    """

    def __init__(self, *, ticks: Ticks, local: bool, poll_seconds: float | None = None) -> None:
        self._ticks = ticks
        self._local = local
        self._poll_seconds = poll_seconds
        self._block_seconds = _BLOCK_SECONDS
        self._last: Observation | None = None
        self._looked_at = self._followed_at = self._final_at = float("-inf")
        self._began_at: float | None = None
        # Of the last heads, how long after the chain's time of each it was seen here.
        self._delays: deque[float] = deque(maxlen=_HEADS_KEPT)
        self._announced = AnnouncedBlocks()
        self.pace = Pace.BUSY

    def announced(self, number: int, block_hash: str) -> None:
        """Note a head that a subscription told."""
        head = self._last.head if self._last is not None else None
        since = self._ticks() - self._followed_at
        self._announced.announced(number, block_hash, head=head, since=since)

    def announcements_ended(self) -> None:
        """Note that a subscription tells nothing for now."""
        self._announced.ended()

    def round_begins(self) -> None:
        """Note that a round is about to read the newest block."""
        self._began_at = self._ticks()

    def followed(self, seen: Observation, *, final: bool) -> None:
        """Note what was seen of the chain, and whether what is final was read again."""
        now = self._ticks()
        if final:
            self._final_at = now
        if self._last is None or seen.head.number > self._last.head.number:
            # Booking what came took a while since the head was read.
            self._learn(seen, now if self._began_at is None else self._began_at)
            self._announced.followed(seen.head)
        self._last = seen
        self._looked_at = self._followed_at = now

    def round_done(self, pace: Pace) -> None:
        """Note what a round left to do, whether it followed the chain or went on at its head."""
        self.pace = pace
        # What came while a long round went on has waited: the next look is due by its beginning.
        self._looked_at = self._ticks() if self._began_at is None else self._began_at
        self._began_at = None

    def looked(self) -> None:
        """Note a look that found nothing new."""
        self._looked_at = self._ticks()

    @property
    def round_is_due(self) -> bool:
        """Whether the chain has to be read whole, whatever a look would find."""
        return self._ticks() - self._followed_at >= self._spans[1]

    @property
    def is_fresh(self) -> bool:
        """Whether the chain was followed so lately that its endpoint may stand still since."""
        return self._ticks() - self._followed_at < _BUSY_ROUND_SECONDS

    @property
    def final_is_due(self) -> bool:
        """Whether what is final by now has to be read again."""
        span = _FINAL_SECONDS_IDLE if self.pace is Pace.IDLE else _FINAL_SECONDS
        return self._local or self._ticks() - self._final_at >= span

    @property
    def standby_seconds(self) -> float:
        """The seconds between two tries to act where another executor does."""
        return _LOCAL_SECONDS[0] if self._local else _STANDBY_SECONDS

    @property
    def seconds_left(self) -> float:
        """The seconds until the next look or round."""
        look, whole = self._spans
        return max(0.0, min(self._next_look(look), self._followed_at + whole) - self._ticks())

    def _next_look(self, span: float) -> float:
        if self.pace is Pace.BUSY and self._last is not None and self._announced.is_trusted:
            more = self._announced.tells_more_than(self._last.head)
            return self._looked_at + span if more else float("inf")
        expected = self._expected_at
        if self._poll_seconds is None and expected <= self._looked_at < expected + self._early:
            return expected + 2 * self._early
        return max(self._looked_at + span, expected)

    @property
    def _spans(self) -> tuple[float, float]:
        """The seconds between two looks, and between two rounds."""
        if self._local:
            return _LOCAL_SECONDS_BUSY if self.pace is Pace.BUSY else _LOCAL_SECONDS
        if self.pace is Pace.BUSY:
            spans = self._block_seconds / _PART_OF_BLOCK, _BUSY_ROUND_SECONDS
        else:
            spans = _OPEN_SECONDS if self.pace is Pace.OPEN else _IDLE_SECONDS
        least = self._poll_seconds or 0.0
        return max(least, spans[0]), max(least, spans[1])

    @property
    def _expected_at(self) -> float:
        """The time of the next head: a block time after the last, and seen as soon as others."""
        if self._local or self._last is None or self.pace is not Pace.BUSY:
            return float("-inf")
        expected = self._last.head.at + self._block_seconds + min(self._delays) - self._early
        return min(expected, self._followed_at + self._block_seconds)

    @property
    def _early(self) -> float:
        return self._block_seconds / _EARLY_PART_OF_BLOCK

    def _learn(self, seen: Observation, read_at: float) -> None:
        """Follow the chain's block time, and how soon a head is seen."""
        self._delays.append(read_at - seen.head.at)
        if self._last is None:
            return
        blocks = seen.head.number - self._last.head.number
        seconds = (seen.head.at - self._last.head.at) / blocks
        self._block_seconds = min(max(seconds, _BLOCK_SECONDS_MIN), _BLOCK_SECONDS_MAX)


def idle_calls_a_day(poll_seconds: float | None, *, watches: bool = False) -> int:
    """Return about how many JSON-RPC calls a worker with nothing to do makes a day.

    One that ``watches`` a Safe asks for its logs in each look, too, and each hour for its storage.
    Measured parts, on a public network with one endpoint; ``scripts/bench idle`` counts them.
    """
    look, whole = (max(span, poll_seconds or 0.0) for span in _IDLE_SECONDS)
    rounds, finals = _DAY / whole, _DAY / max(_FINAL_SECONDS_IDLE, whole)
    looks, storage = _DAY / look - rounds, 0
    if watches:
        looks, storage = 2 * looks, 24 * _STORAGE_CALLS
    return round(looks + rounds * _ROUND_CALLS + finals * _FINAL_CALLS + storage)
