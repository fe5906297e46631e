"""Run what a process does for a coordinator in the background: act, deliver, observe, wait."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from coordinator.alerts.delivery import Delivery
from coordinator.api.arguments import checked
from coordinator.api.observers import Callback, Observers
from coordinator.domain.errors import ConfigurationError, CoordinatorError, InvalidRequest
from coordinator.domain.observed import KINDS
from coordinator.domain.purchase.lifecycle import ESCROWED, Status
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.purchase import Purchase
from coordinator.startup import activate_policy, claim_database
from coordinator.wiring import Wiring

_LOOK_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.1
_AT_ONCE: Final = 16

UNTIL: Final = {
    "funded": frozenset(ESCROWED),
    "delivered": frozenset({Status.DELIVERED, Status.DISPUTED, Status.SETTLED}),
    "final": frozenset[Status](),
}
_ROUND_SECONDS: Final = 2

T = TypeVar("T")

log = logging.getLogger(__name__)


@checked
class Runtime:
    """The executor, the delivery of notices and the observers of one process, and its waiters.

    ``acts`` is False in a process that only decides.
    """

    def __init__(self, wiring: Wiring, *, act: bool = True) -> None:
        self._wiring = wiring
        self.acts = wiring.acts = act
        self._changed = threading.Condition()
        self._opening = threading.RLock()
        self._is_claimed = self._is_policy_read = False
        self._policy_fault: ConfigurationError | None = None
        self._starting = threading.Lock()
        self._delivery: Delivery | None = None
        self._observers: Observers | None = None
        # The event loop's own threads are left to the loop's owner.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="coordinator-async")
        wiring.on_change(self._tell)

    @property
    def wiring(self) -> Wiring:
        """The parts, once the database is this treasury's and a policy is in force.

        ConfigurationError when neither can be; CoordinatorClosed after ``close``; ForkedProcess in
        a process that was forked from the one that used it first.
        """
        w = self.claimed
        if not self._is_policy_read:
            with self._opening:
                if not self._is_policy_read:
                    self._policy_fault = activate_policy(
                        w.policies,
                        w.policy_source,
                        treasury=w.signer.address,
                        many_hosts=w.database.many_hosts,
                        now=w.clock,
                    )
                    self._is_policy_read = True
        return w

    @property
    def claimed(self) -> Wiring:
        """The parts, once the database is this treasury's: no policy file can stop an emergency."""
        w = self.opened
        if not self._is_claimed:
            with self._opening:
                if not self._is_claimed:
                    claim_database(w.operations, w.identity)
                    self._is_claimed = True
        return w

    @property
    def opened(self) -> Wiring:
        """The parts, for what decides and writes nothing: whose database it is was not asked."""
        self._wiring.check()
        return self._wiring

    def _check_policy_file(self) -> None:
        """Refuse new spending while the file that should decide it is faulty; all faults at once.

        ConfigurationError. The file's limits may be lower than those in force.
        """
        self.wiring  # noqa: B018 - reads the file, once
        if self._policy_fault is not None:
            raise self._policy_fault

    def close(self) -> None:
        """Stop acting and close the database; what is open goes on at the next start.

        Whatever is asked afterwards is refused. Closing again does nothing, nor does a close in a
        forked child.
        """
        if not self._wiring.here():
            return
        if self._observers is not None:
            self._observers.stop()
        if self._delivery is not None:
            self._delivery.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._wiring.close()

    def start(self) -> None:
        """Check the endpoint and start the executor, unless this process only decides."""
        w = self.wiring
        if not self.acts:
            return
        with self._starting:
            # A key that can't sign and an endpoint that is wrong are told before anything is held:
            # a later process would pay for what this one says has failed.
            w.signer.open()
            w.chain  # noqa: B018
            w.executor.start()
            if self._delivery is None:
                self._delivery = Delivery(
                    w.notices, w.notify_urls, w.clock, acting=lambda: w.executor.acting
                )
                self._delivery.start()

    def look(self) -> None:
        """Start, and wait at most ten seconds until the books have followed the chain once.

        What a provider has done since the last process ended is known then.
        """
        self.start()
        if self.acts:
            self.wiring.executor.wait_for_look(_LOOK_SECONDS)

    def recover(self, *, timeout_seconds: float = 60) -> bool:
        """Finish what a crash left; True when nothing is in flight or waits any more."""
        self.start()
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._changed:
                self.raise_fault()
                if self.wiring.executor.acting and self.wiring.executor.idle():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _POLL_SECONDS))

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """The purchase once it is ``funded``, ``delivered`` or ``final``, or at the timeout.

        Returns at once when it can't get there by itself: final, or waiting for people. Starts the
        executor, unless this process only decides. ``blocker`` of a purchase that is not there at
        the timeout says who would have to act. Never raises for time and never cancels.
        """
        waiting = _Waiting(self, purchase_id, until, timeout_seconds)
        while (purchase := waiting.look()) is None:
            with self._changed:
                self._changed.wait(_POLL_SECONDS)
        return purchase

    async def await_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """``wait_for`` off the event loop; no thread is kept while it waits."""
        waiting = _Waiting(self, purchase_id, until, timeout_seconds)
        while (purchase := await self.off_loop(waiting.look)) is None:
            await asyncio.sleep(_POLL_SECONDS)
        return purchase

    async def off_loop(self, call: Callable[[], T]) -> T:
        """Run a short call in the coordinator's own threads, never in the event loop's."""
        self.opened  # noqa: B018 - closed or forked is told, not waited for
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _wait_for_order(self, order: Order, timeout_seconds: float) -> Order:
        """Return the order when it is done or failed, needs more approvers, or at the timeout."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if order.status == "awaiting_approval":
                return order
            order = next(o for o in self.wiring.operations.orders() if o.id == order.id)
            left = deadline - time.monotonic()
            if order.status != "approved" or left <= 0:
                return order
            self.raise_fault()
            with self._changed:
                self._changed.wait(min(left, _POLL_SECONDS))

    def told_whole(self, purchase: Purchase) -> bool:
        """Return whether receipts and the hold's end are in the books too."""
        if any(t.status == "signed" for t in purchase.transactions):
            return False
        return not purchase.final or not self.wiring.purchases.holds(purchase.id)

    def raise_fault(self) -> None:
        """Raise what stopped the executor of this process, if anything did."""
        if "executor" in self.wiring.__dict__ and (fault := self.wiring.executor.fault):
            if isinstance(fault, CoordinatorError):
                raise fault
            raise CoordinatorError(f"the executor stopped: {fault}") from fault

    def observe(self, callback: Callback, events: Iterable[str] = KINDS) -> None:
        """Call back with each Event of these kinds from now on, after its commit, in order.

        In a thread of its own: it can neither change nor delay a decision. What it raises is
        logged once a kind. One that is too slow loses what comes while 10,000 wait; how many, is
        ``observers_dropped``. Decisions, checks, holds, posts and voids are this process's own,
        alerts those of every process.
        """
        with self._starting:
            if self._observers is None:
                w = self.opened
                self._observers = Observers(w.notices.after, w.notices.last_seq)
                w.on_event(self._observers.put)
        self._observers.add(callback, events)

    @property
    def observers_dropped(self) -> int:
        """The number of events that were dropped because observers were too slow."""
        return self._observers.dropped if self._observers is not None else 0

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Waiting:
    """A wait for one purchase, look by look."""

    def __init__(
        self, runtime: Runtime, purchase_id: str, until: str, timeout_seconds: float
    ) -> None:
        if until not in UNTIL:
            raise InvalidRequest(f"until is one of {', '.join(UNTIL)}")
        self._runtime = runtime
        self._purchase_id = purchase_id
        self._until = until
        self._deadline = time.monotonic() + timeout_seconds
        self._reached: float | None = None
        self._started = False

    def look(self) -> Purchase | None:
        """Return the purchase when the wait is over, None while it goes on."""
        runtime = self._runtime
        purchase = runtime.wiring.purchases.get(self._purchase_id)
        there = purchase.final or purchase.status in UNTIL[self._until]
        over = time.monotonic() >= self._deadline
        if purchase.needs_approval or (over and there):
            return purchase
        if over:
            return replace(purchase, blocker=runtime.wiring.blockers.of(purchase))
        if there:
            # Its event is in the books; receipts and the hold's end follow in the same round.
            self._reached = self._reached or time.monotonic()
            late = time.monotonic() - self._reached > _ROUND_SECONDS
            if late or runtime.told_whole(purchase):
                return purchase
        elif not self._started:
            self._start(purchase)
        runtime.raise_fault()
        return None

    def _start(self, purchase: Purchase) -> None:
        self._started = True
        self._runtime.start()
        if not self._runtime.acts:
            blocker = self._runtime.wiring.blockers.of(purchase)
            if blocker is not None:
                log.warning("purchase_waits purchase_id=%s: %s", purchase.id, blocker.message)
