"""Switch to another endpoint when this one lags or stops producing blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable, SignerUnavailable
from coordinator.domain.ports import EndpointChoice, Observation, Ticks

log = logging.getLogger(__name__)

_STILL_SECONDS: Final = 10
_STALLED_SECONDS: Final = 60


class EndpointFailover:
    """Chooses the endpoint to read; ``waiting`` says whether a transaction waits for a block."""

    def __init__(self, *, chain: EndpointChoice, ticks: Ticks, waiting: Callable[[], bool]) -> None:
        self._chain = chain
        self._ticks = ticks
        self._waiting = waiting
        # Only what the books could follow: an absurd number is forgotten with its round.
        self._highest = 0
        self._moved_at = ticks()
        self._looked_at = ticks()
        self._told = False

    @contextmanager
    def round(self) -> Iterator[None]:
        """After a round that the endpoint's failure ended, use another in the next round."""
        try:
            yield
        except SignerUnavailable:
            raise
        except ChainUnavailable:
            self._chain.turn_away()
            raise

    def observe(self, known: int, *, quick: bool = False, head: Block | None = None) -> Observation:
        """Return the newest observation, from another endpoint when this one lags or stalls.

        ChainUnavailable when every one is behind block ``known`` or a head that was followed.
        """
        known = max(self._highest, known)
        seen = self._chain.observe(quick=quick, head=head)
        still = seen.head.number <= self._highest and self._since(self._moved_at) >= _STILL_SECONDS
        if seen.head.number < known:
            above = known - 1
        elif still and self._since(self._looked_at) >= _STILL_SECONDS:
            above = seen.head.number
        else:
            return seen
        self._looked_at = self._ticks()
        if self._chain.look_elsewhere(above=above):
            seen = self._chain.observe()
        self._tell_stall(seen.head.number)
        if seen.head.number < known:
            raise ChainUnavailable(
                f"the endpoint is at block {seen.head.number}, behind block {known} seen before"
            )
        return seen

    def followed(self, seen: Observation) -> None:
        """Note that the books reached ``seen``, so its head is confirmed."""
        if seen.head.number > self._highest:
            self._highest, self._moved_at, self._told = seen.head.number, self._ticks(), False

    def _tell_stall(self, number: int) -> None:
        """Warn once of a stall while a signed transaction waits; idle local chains are normal."""
        if number > self._highest or self._told or self._since(self._moved_at) < _STALLED_SECONDS:
            return
        if self._waiting():
            self._told = True
            log.error("chain_stalled block=%s: no endpoint has a newer one", number)

    def _since(self, ticks: float) -> float:
        return self._ticks() - ticks
