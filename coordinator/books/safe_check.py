"""Read now and then whether a Safe's storage still is what its events told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Clock, SafeDifferences, Ticks
from coordinator.ledger.chain.safe_checks import SafeChecks

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 3600
_AGAIN_SECONDS: Final = 60


@dataclass(slots=True, kw_only=True)
class SafeCheck:
    """Looks at the start and once an hour; ``read`` tells what is not as it must be.

    What the last look did not find is read again after a minute, before anything follows from it:
    one answer of one endpoint stops no spending.
    """

    read: Callable[[], SafeDifferences]
    checks: SafeChecks
    clock: Clock
    ticks: Ticks
    _due_at: float | None = None
    _last: SafeDifferences | None = None

    def look(self) -> None:
        """Read, where it is due; an endpoint that does not tell is asked again after a minute."""
        now = self.ticks()
        if self._due_at is not None and now < self._due_at:
            return
        self._due_at = now + _AGAIN_SECONDS
        try:
            found = self.read()
        except ChainUnavailable as fault:
            log.warning("safe_not_checked reason=%s", fault)
            return
        if found == self._last:
            self.checks.compare(found, now=self.clock())
            self._due_at = now + _EVERY_SECONDS
        self._last = found
