"""Compare the balance with the journal now and then, and pause spending where they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coordinator.domain.ports import Clock, Observation, Ticks
from coordinator.domain.usdc import Usdc
from coordinator.executor.watch import Watch
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.tx.pausing import Pause

_SECONDS: Final = 60


class Drift:
    """Looks once a minute; ``measure`` tells by how much they differ."""

    def __init__(
        self,
        ledger: Ledger,
        watch: Watch,
        measure: Callable[[Observation], Usdc],
        *,
        clock: Clock,
        ticks: Ticks,
    ) -> None:
        self._policies = ledger.policies
        self._operations = ledger.operations
        self._watch = watch
        self._measure = measure
        self._clock = clock
        self._ticks = ticks
        self.looked_at: float | None = None

    def look(self, seen: Observation) -> None:
        """Pause spending when the balance differs from the journal by more than is allowed."""
        ticks, last = self._ticks(), self.looked_at
        if last is not None and ticks - last < _SECONDS:
            return
        drift, allowed = self._measure(seen), self._policies.current().alerts.drift_above
        # A look that failed was none.
        self.looked_at = ticks
        if self._watch.look_at_drift(drift, allowed):
            why = (
                f"the treasury's balance and the journal differ by {drift} USDC; at most {allowed}"
                " is allowed: run `coordinator reconcile`, explain the difference, then unpause"
            )
            self._operations.pause(Pause("organisation", "", why, by="executor", at=self._clock()))
