"""Wait for purchases: one reader looks for all who wait in this process, and wakes who is there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from coordinator.domain.errors import CoordinatorClosed, InvalidRequest, LedgerUnavailable
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.wiring import Wiring

UNTIL: Final = {
    "funded": frozenset(ESCROWED),
    "delivered": frozenset({Status.DELIVERED, Status.DISPUTED, Status.SETTLED}),
    "final": frozenset[Status](),
}
# Receipts and the hold's end follow the event that moved a purchase, in the same round.
_ROUND_SECONDS: Final = 2.0
_AT_ONCE: Final = 500
_SLEEP_SECONDS_MAX: Final = 3_600.0


class Wait:
    """One caller's wait for one purchase, until a time of the monotonic clock."""

    def __init__(self, purchase_id: str, until: str, timeout_seconds: float) -> None:
        if until not in UNTIL:
            raise InvalidRequest(f"until must be one of {', '.join(UNTIL)}")
        self.purchase_id = purchase_id
        self.purchase: Purchase | None = None
        self.fault: BaseException | None = None
        #: Called in the watcher's thread when there is something to see.
        self.wake: Callable[[], object] = lambda: None
        self._goals = UNTIL[until]
        self._deadline = time.monotonic() + timeout_seconds

    def is_there(self, purchase: Purchase) -> bool:
        """Return whether the purchase got there, or can't get any further."""
        return purchase.final or purchase.status in self._goals

    def look(self, purchase: Purchase, *, whole: bool) -> bool:
        """Return whether the wait is over; once there, wait up to two seconds for receipts."""
        there = self.is_there(purchase)
        if purchase.needs_approval or (there and whole):
            self.purchase = purchase
        elif there:
            self._deadline = min(self._deadline, time.monotonic() + _ROUND_SECONDS)
        return there or purchase.needs_approval

    @property
    def over(self) -> bool:
        """Whether it ended, or its time did."""
        return self.purchase is not None or self.fault is not None or self.seconds_left <= 0

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def sleep_seconds(self) -> float:
        """Seconds to sleep at once: systems know no wait of centuries."""
        return min(max(0.0, self.seconds_left), _SLEEP_SECONDS_MAX)


class Watcher:
    """The waits of this process: they cost nothing until the ledger changes.

    ``raise_fault`` raises what stopped the executor, if anything did; every wait ends with it.
    """

    def __init__(self, wiring: Wiring, raise_fault: Callable[[], None]) -> None:
        self._wiring = wiring
        self._raise_fault = raise_fault
        self._mutex = threading.Lock()
        self._waits: dict[str, list[Wait]] = {}
        self._unseen: set[str] = set()

    def __len__(self) -> int:
        """Return the number of waits."""
        with self._mutex:
            return sum(map(len, self._waits.values()))

    def close(self) -> None:
        """End every wait with CoordinatorClosed; the wiring is closed already."""
        try:
            self._wiring.check()
        except CoordinatorClosed as fault:
            self._end_all(fault)

    def block(self, wait: Wait) -> None:
        """Block the thread until the wait is over."""
        told = threading.Event()
        with self._watching(wait, told.set):
            while not wait.over:
                told.wait(wait.sleep_seconds)
                told.clear()

    async def until_over(self, wait: Wait) -> None:
        """Await the end of the wait; no thread is kept meanwhile."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # A loop that was closed waits for nothing any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(told.set)

        with self._watching(wait, wake):
            while not wait.over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), wait.sleep_seconds)
                told.clear()

    @contextlib.contextmanager
    def _watching(self, wait: Wait, wake: Callable[[], object]) -> Iterator[None]:
        wait.wake = wake
        changes = self._wiring.changes
        with self._mutex:
            alone = not self._waits
            self._waits.setdefault(wait.purchase_id, []).append(wait)
            self._unseen.add(wait.purchase_id)
            if alone:
                changes.subscribe(self._look)
        changes.look()
        try:
            # Whoever closed it since has ended the waits that there were.
            self._wiring.check()
            yield
        finally:
            with self._mutex:
                waits = self._waits[wait.purchase_id]
                waits.remove(wait)
                if not waits:
                    del self._waits[wait.purchase_id]
                if not self._waits:
                    changes.unsubscribe(self._look)

    def _look(self, changed: frozenset[str] | None) -> None:
        """Wake those whose purchase changed and is where they wait for it, or soon will be."""
        with self._mutex:
            wanted = self._waits.keys() if changed is None else self._waits.keys() & changed
            ids = sorted(wanted | self._unseen)
            self._unseen = set()
        try:
            self._raise_fault()
            for start in range(0, len(ids), _AT_ONCE):
                self._tell(ids[start : start + _AT_ONCE])
        except LedgerUnavailable:
            with self._mutex:
                self._unseen |= set(ids)
            raise
        except Exception as fault:
            self._end_all(fault)

    def _tell(self, ids: Sequence[str]) -> None:
        found = self._wiring.purchases.several(ids)
        holding = self._wiring.purchases.holding([p.id for p in found if p.final])
        for purchase in found:
            # Receipts and the hold's end follow the event that moved it, in the same round.
            signed = any(t.status == "signed" for t in purchase.transactions)
            whole = not signed and purchase.id not in holding
            for wait in self._of(purchase.id):
                if wait.look(purchase, whole=whole):
                    wait.wake()

    def _of(self, purchase_id: str) -> list[Wait]:
        with self._mutex:
            return list(self._waits.get(purchase_id, ()))

    def _end_all(self, fault: Exception) -> None:
        with self._mutex:
            waits = [wait for waits in self._waits.values() for wait in waits]
        for wait in waits:
            wait.fault = fault
            wait.wake()
