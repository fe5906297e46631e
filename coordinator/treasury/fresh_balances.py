"""Read the treasury's balances again before denying a request for lack of funds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.domain.errors import CoordinatorError
from coordinator.domain.ports import ChainReader, Clock, Observation
from coordinator.ledger.tx.operations import OperationsBook

# The longest that a decision waits for balances before it denies for want of funds.
_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class FreshBalances:
    """Stores current balances, if this process may read the chain.

    A process that only decides does not ask: a worker does that for it. Nor is it asked again
    within two seconds: agents that have nothing may ask often. ``chain`` is built when it is asked.
    """

    chain: Callable[[], ChainReader]
    operations: OperationsBook
    treasury: str
    clock: Clock
    acts: Callable[[], bool]

    def read(self) -> bool:
        """Store them; False when no chain answers within two seconds."""
        stored = self.operations.balances(self.treasury)
        if not self.acts() or (stored is not None and self.clock() - stored.at < _SECONDS):
            return False
        found: list[Observation] = []

        def observe() -> None:
            with contextlib.suppress(CoordinatorError):
                found.append(self.chain().observe())

        # A daemon: an endpoint that hangs must neither delay the answer nor the program's end.
        reading = threading.Thread(target=observe, name="coordinator-balances", daemon=True)
        reading.start()
        reading.join(_SECONDS)
        if not found:
            return False
        self.operations.store_balances(self.treasury, found[0], now=self.clock(), again=True)
        return True
