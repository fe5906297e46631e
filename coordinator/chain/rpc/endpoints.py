"""State of each endpoint: whether it may be asked, and how much at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from coordinator.domain.ports import Ticks

log = logging.getLogger(__name__)

_BATCH_MAX: Final = 100
_GROW_SECONDS: Final = 60
_REST_SECONDS: Final = 30
_FAULTS_MAX: Final = 3


class Endpoint:
    """One endpoint, as this process has come to know it. Spans are measured by ``ticks``."""

    def __init__(self, url: str, ticks: Ticks) -> None:
        self.url = url
        self._ticks = ticks
        self._rests_until = 0.0
        self._closed_until = float("-inf")
        self._faults = 0
        self._batch_max = _BATCH_MAX
        self._grows_at = 0.0
        self.right_chain = False
        self.wrong_chain = False
        self.was_right = False

    @property
    def host(self) -> str:
        """The host alone: paths, queries and names of users often hold a secret."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def rests(self) -> bool:
        """Whether it is left alone for a while, where another can be asked."""
        return self._ticks() < self._rests_until

    def rest(self) -> None:
        """Leave it alone for a while; its chain is asked for again when it comes back."""
        self._rests_until = self._ticks() + _REST_SECONDS
        self.right_chain = False

    def close_for(self, seconds: float) -> None:
        """Ask it nothing for so long, even where there is no other: it told so itself."""
        self._closed_until = self._ticks() + seconds
        self._rests_until = max(self._rests_until, self._closed_until)

    @property
    def closed_seconds(self) -> float:
        """The seconds for which it wants no request; 0 or less when it takes them."""
        return self._closed_until - self._ticks()

    def answered(self) -> None:
        """It is well again, however it was."""
        self._faults, self._rests_until = 0, 0.0

    def failed(self, *, lasting: bool) -> None:
        """It rests after a fault that lasts, or after several in a row."""
        self._faults += 1
        if lasting or self._faults >= _FAULTS_MAX:
            self.rest()

    def tells_chain(self, said: str, chain_id: int) -> bool:
        """Whether ``said`` is the right chain; a wrong one is told once, and it rests."""
        self.right_chain = said.lower() == hex(chain_id)
        if not self.right_chain:
            if not self.wrong_chain:
                log.error("endpoint_on_wrong_chain endpoint=%s said=%s", self.host, said[:20])
            self.rest()
        self.wrong_chain = not self.right_chain
        self.was_right |= self.right_chain
        return self.right_chain

    @property
    def batch_max(self) -> int:
        """The number of calls it takes at once; a size it refused is tried again after a while."""
        if self._batch_max < _BATCH_MAX and self._ticks() >= self._grows_at:
            self._batch_max = min(_BATCH_MAX, self._batch_max * 2)
            self._grows_at = self._ticks() + _GROW_SECONDS
        return self._batch_max

    def takes_less_than(self, size: int) -> None:
        """It refused a batch of ``size``. When that was one call, size was not the reason."""
        self._batch_max = size // 2 or _BATCH_MAX
        self._grows_at = self._ticks() + _GROW_SECONDS


class Endpoints:
    """All endpoints of one chain. Reads begin at the first of ``in_order``."""

    def __init__(self, urls: Sequence[str], ticks: Ticks) -> None:
        self.all = tuple(Endpoint(url, ticks) for url in urls)
        self._first = 0

    def in_order(self) -> list[Endpoint]:
        """All of them as they are to be asked; those that rest come behind the others."""
        turned = [*self.all[self._first :], *self.all[: self._first]]
        return sorted(turned, key=lambda endpoint: endpoint.rests)

    def others(self) -> list[Endpoint]:
        """The endpoints that can replace the first."""
        return [endpoint for endpoint in self.in_order()[1:] if not endpoint.rests]

    def use(self, endpoint: Endpoint) -> None:
        """Begin reads there from now on."""
        log.warning("endpoint_changed from=%s to=%s", self.in_order()[0].host, endpoint.host)
        self._first = self.all.index(endpoint)
