"""A wait for one purchase, for whoever waits in a thread or in an event loop."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.purchase.purchase import Purchase

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator

log = logging.getLogger(__name__)

UNTIL: Final = {
    "funded": frozenset(ESCROWED),
    "delivered": frozenset({Status.DELIVERED, Status.DISPUTED, Status.SETTLED}),
    "final": frozenset[Status](),
}
_ROUND_SECONDS: Final = 2


class Waiting:
    """A wait for one purchase, look by look."""

    def __init__(
        self, coordinator: Coordinator, purchase_id: str, until: str, timeout_seconds: float
    ) -> None:
        if until not in UNTIL:
            raise InvalidRequest(f"until is one of {', '.join(UNTIL)}")
        self._coordinator = coordinator
        self._purchase_id = purchase_id
        self._until = until
        self._deadline = time.monotonic() + timeout_seconds
        self._reached: float | None = None
        self._started = False

    def look(self) -> Purchase | None:
        """Return the purchase when the wait is over, None while it goes on."""
        coordinator = self._coordinator
        purchase = coordinator.get(self._purchase_id)
        there = purchase.final or purchase.status in UNTIL[self._until]
        over = time.monotonic() >= self._deadline
        if purchase.needs_approval or (over and there):
            return purchase
        if over:
            return replace(purchase, blocker=coordinator.wiring.blockers.of(purchase))
        if there:
            # Its event is in the books; receipts and the hold's end follow in the same round.
            self._reached = self._reached or time.monotonic()
            late = time.monotonic() - self._reached > _ROUND_SECONDS
            if late or coordinator.told_whole(purchase):
                return purchase
        elif not self._started:
            self._start(purchase)
        coordinator.raise_fault()
        return None

    def _start(self, purchase: Purchase) -> None:
        self._started = True
        self._coordinator.start()
        if not self._coordinator.acts:
            blocker = self._coordinator.wiring.blockers.of(purchase)
            if blocker is not None:
                log.warning("purchase_waits purchase_id=%s: %s", purchase.id, blocker.message)
