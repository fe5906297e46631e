"""Wait for purchases: one reader looks for all who wait in this process, and wakes who is there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Final

from coordinator.domain.errors import (
    CoordinatorClosed,
    ForkedProcess,
    InvalidRequest,
    LedgerUnavailable,
)
from coordinator.domain.purchase.lifecycle import ESCROWED, FINAL, Status
from coordinator.domain.purchase.purchase import Purchase, StatusNow
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
        #: The purchase at its goal, where receipts are still waited for.
        self.reached: Purchase | None = None
        self._goals = UNTIL[until]
        self._deadline = time.monotonic() + timeout_seconds
        self._receipts_until = float("inf")

    def is_there(self, status: Status) -> bool:
        """Return whether a purchase of this status got there, or can't get any further."""
        return status in FINAL or status in self._goals

    def look(self, progress: StatusNow) -> bool:
        """Return whether the purchase has to be read: where it is, or might be, at its goal.

        One that a reorganisation takes back from there is waited for on.
        """
        there = self.is_there(progress.status)
        if not there:
            self.reached, self._receipts_until = None, float("inf")
        waits = there and not progress.whole and self.reached is not None
        return not waits and (there or progress.status is Status.AWAITING_APPROVAL)

    def take(self, purchase: Purchase, *, whole: bool) -> None:
        """End the wait if the purchase is there; wait up to two seconds for receipts."""
        there = self.is_there(purchase.status)
        if purchase.needs_approval or (there and whole):
            self.purchase = purchase
        elif there:
            # Kept: thousands that read theirs when no receipt comes would read one by one.
            self.reached, self._receipts_until = purchase, time.monotonic() + _ROUND_SECONDS
        self.wake()

    @property
    def over(self) -> bool:
        """Whether it ended, or its time did."""
        return self.purchase is not None or self.fault is not None or self.seconds_left <= 0

    @property
    def seconds_left(self) -> float:
        return min(self._deadline, self._receipts_until) - time.monotonic()

    @property
    def sleep_seconds(self) -> float:
        """Seconds to sleep at once: systems know no wait of centuries."""
        return min(max(0.0, self.seconds_left), _SLEEP_SECONDS_MAX)


class AuthorisationWait(Wait):
    """A wait until what pays for an HTTP request is signed, or can't be any more."""

    def __init__(self, purchase_id: str, timeout_seconds: float) -> None:
        super().__init__(purchase_id, "final", timeout_seconds)

    def look(self, progress: StatusNow) -> bool:
        waits = progress.status is Status.AWAITING_APPROVAL
        return waits or progress.authorised or self.is_there(progress.status)

    def take(self, purchase: Purchase, *, whole: bool) -> None:
        self.purchase = purchase
        self.wake()


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
        self._closed: CoordinatorClosed | None = None

    def __len__(self) -> int:
        """Return the number of waits."""
        with self._mutex:
            return sum(map(len, self._waits.values()))

    def close(self) -> None:
        """End every wait with CoordinatorClosed, and let none begin."""
        fault = CoordinatorClosed("this coordinator is closed: open another one")
        with self._mutex:
            self._closed = fault
        self._end(fault)

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
        self._wiring.check()
        try:
            self._register(wait)
            self._wiring.changes.look()
            yield
        finally:
            self._forget(wait)

    def _register(self, wait: Wait) -> None:
        with self._mutex:
            if self._closed is not None:
                raise self._closed
            if not self._waits:
                self._wiring.changes.subscribe(self._look)
            self._waits.setdefault(wait.purchase_id, []).append(wait)
            self._unseen.add(wait.purchase_id)

    def _forget(self, wait: Wait) -> None:
        with self._mutex:
            left = [one for one in self._waits.pop(wait.purchase_id, ()) if one is not wait]
            if left:
                self._waits[wait.purchase_id] = left
            if not self._waits:
                self._wiring.changes.unsubscribe(self._look)

    def _look(self, changed: frozenset[str] | None) -> None:
        """Wake those whose purchase changed and is where they wait for it, or soon will be."""
        with self._mutex:
            wanted = self._waits.keys() if changed is None else self._waits.keys() & changed
            ids = sorted(wanted | self._unseen)
            self._unseen = set()
        try:
            self._raise_fault()
            for start in range(0, len(ids), _AT_ONCE):
                self._tell_apart(ids[start : start + _AT_ONCE])
        except LedgerUnavailable:
            with self._mutex:
                self._unseen |= set(ids)
            raise
        except Exception as fault:
            self._end(fault)

    def _tell_apart(self, ids: Sequence[str]) -> None:
        """Tell what is read together, or one by one: what can't be read ends its own waits."""
        try:
            self._tell(ids)
        except (LedgerUnavailable, CoordinatorClosed, ForkedProcess):
            raise
        except Exception as fault:
            if len(ids) == 1:
                self._end(fault, ids[0])
                return
            for purchase_id in ids:
                self._tell_apart([purchase_id])

    def _tell(self, ids: Sequence[str]) -> None:
        found = self._wiring.purchases.progress(ids)
        waits = {of: [w for w in self._of(of) if w.look(found[of])] for of in found}
        there = [of for of, some in waits.items() if some]
        for purchase in self._wiring.purchases.several(there) if there else ():
            for wait in waits[purchase.id]:
                wait.take(purchase, whole=found[purchase.id].whole)

    def _of(self, purchase_id: str) -> list[Wait]:
        with self._mutex:
            return list(self._waits.get(purchase_id, ()))

    def _end(self, fault: Exception, purchase_id: str | None = None) -> None:
        """End the waits for a purchase, or all of them, with the fault."""
        with self._mutex:
            found = (
                self._waits.get(purchase_id, []) if purchase_id else chain(*self._waits.values())
            )
            waits = list(found)
        for wait in waits:
            wait.fault = fault
            wait.wake()
