"""Run a coordinator's background work: executor, delivery of notices, observers, waits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from coordinator.alerts.delivery import Delivery
from coordinator.api.arguments import checked
from coordinator.api.observers import Callback, Observers
from coordinator.api.watcher import Wait, Watcher
from coordinator.domain.errors import ConfigurationError, CoordinatorClosed, CoordinatorError
from coordinator.domain.observed import KINDS
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.purchase import Purchase
from coordinator.startup import activate_policy, claim_database
from coordinator.wiring import Wiring

_LOOK_SECONDS: Final = 10
# An executor that stops tells nobody.
_POLL_SECONDS: Final = 1.0
_AT_ONCE: Final = 16
# Of many that wait where nobody acts, the first are told why in the log.
_WARNED_MAX: Final = 16

T = TypeVar("T")

log = logging.getLogger(__name__)


@checked
class Runtime:
    """Background work of one process: executor, delivery of notices, observers and waits.

    ``acts`` is False in a process that only decides. So does one that has the treasury's address
    and no key.
    """

    def __init__(self, wiring: Wiring, *, act: bool = True) -> None:
        self._wiring = wiring
        self.acts = wiring.acts = act
        self._opening = threading.RLock()
        self._is_claimed = self._is_policy_read = False
        self._policy_fault: ConfigurationError | None = None
        self._starting = threading.Lock()
        self._delivery: Delivery | None = None
        self._observers: Observers | None = None
        # The event loop's own threads are left to the loop's owner.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="coordinator-async")
        self._watcher = Watcher(wiring, self.raise_fault)
        self._closing = False

    @property
    def _may_act(self) -> bool:
        return self.acts and self._wiring.signer.can_sign

    @property
    def wiring(self) -> Wiring:
        """Return the parts, after checking the database's treasury and putting a policy in force.

        ConfigurationError when neither can be; CoordinatorClosed after ``close``; ForkedProcess in
        a process that was forked from the one that used it first.
        """
        w = self.claimed
        if not self._is_policy_read:
            with self._opening:
                if not self._is_policy_read:
                    self._policy_fault = activate_policy(w, w.policy_source, now=w.clock)
                    self._is_policy_read = True
        return w

    @property
    def claimed(self) -> Wiring:
        """Return the parts, after checking the database's treasury; reads no policy file."""
        w = self.opened
        if not self._is_claimed:
            with self._opening:
                if not self._is_claimed:
                    formers = [former.address for former in w.former_signers]
                    claim_database(w.identity_book, w.identity, formers=formers)
                    self._is_claimed = True
        return w

    @property
    def opened(self) -> Wiring:
        """Return the parts for reads, without checking whose database it is."""
        self._wiring.check()
        return self._wiring

    def _check_policy_file(self) -> None:
        """Raise every fault of the policy file, so that no spending is decided by an older policy.

        ConfigurationError. The file's limits may be lower than those in force.
        """
        self.wiring  # noqa: B018 - reads the file, once
        if self._policy_fault is not None:
            raise self._policy_fault

    def close(self) -> None:
        """Stop acting and close the database; open purchases continue at the next start.

        Whatever is asked afterwards is refused. Closing again does nothing, nor does a close in a
        forked child.
        """
        if not self._wiring.here():
            return
        # Whoever waits is told of the close, not of what it takes away.
        self._closing = True
        self._watcher.close()
        if self._observers is not None:
            self._observers.stop()
        if self._delivery is not None:
            self._delivery.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._wiring.close()

    def start(self) -> None:
        """Check the endpoint and start the executor, unless this process only decides."""
        w = self.wiring
        if not self._may_act:
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
                self._delivery.start(w.changes)

    def _must_act(self) -> None:
        """Raise ConfigurationError where there is no key to act with."""
        if self.acts:
            self._wiring.signer.open()

    def look(self) -> None:
        """Start, and wait at most ten seconds until the books have followed the chain once.

        What a provider has done since the last process ended is known then.
        """
        self.start()
        if self._may_act:
            self.wiring.executor.wait_for_look(_LOOK_SECONDS)

    def recover(self, *, timeout_seconds: float = 60) -> bool:
        """Finish the work a crash left open; True when nothing is in flight or waiting.

        ConfigurationError in a process that has only the treasury's address.
        """
        self._must_act()
        self.start()
        deadline = time.monotonic() + timeout_seconds
        w = self.wiring
        with w.changes.watching() as told:
            while True:
                self.raise_fault()
                if w.executor.acting and w.executor.idle():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                told.wait(min(left, _POLL_SECONDS))
                told.clear()

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Wait until the purchase is ``funded``, ``delivered`` or ``final``, or the time is over.

        Returns at once when it can't get there by itself: final, or waiting for people. Starts the
        executor, unless this process only decides. ``blocker`` of a purchase that is not there at
        the timeout says who would have to act. Never raises for time and never cancels.
        """
        wait = Wait(purchase_id, until, timeout_seconds)
        return self._wait(wait, self.wiring.purchases.get(purchase_id))

    async def await_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Await ``wait_for`` without blocking the event loop or keeping a thread."""
        wait = Wait(purchase_id, until, timeout_seconds)
        return await self._await(wait, lambda: self.wiring.purchases.get(purchase_id))

    def _wait(self, wait: Wait, purchase: Purchase) -> Purchase:
        """Block until the wait for ``purchase``, as it was last read, is over."""
        if self._begin(wait, purchase):
            self._watcher.block(wait)
        return self._answer(wait)

    async def _await(self, wait: Wait, ask: Callable[[], Purchase]) -> Purchase:
        """``_wait`` for what ``ask`` answers, of which only short calls take a thread."""
        if await self.off_loop(lambda: self._begin(wait, ask())):
            await self._watcher.until_over(wait)
        return (
            self._answer(wait)
            if wait.purchase or wait.reached
            else await self.off_loop(partial(self._answer, wait))
        )

    def _begin(self, wait: Wait, purchase: Purchase) -> bool:
        """Start the executor unless the purchase is there; False when there is no need to wait."""
        if purchase.needs_approval:
            wait.purchase = purchase
            return False
        if not wait.is_there(purchase.status):
            self.start()
            if not self._may_act and len(self._watcher) < _WARNED_MAX:
                blocker = self.wiring.blockers.of(purchase)
                if blocker is not None:
                    log.warning("purchase_waits purchase_id=%s: %s", purchase.id, blocker.message)
        self.raise_fault()
        return True

    def _answer(self, wait: Wait) -> Purchase:
        """Return the purchase as it is at the end of the wait, with its blocker if it waits on."""
        if wait.fault is not None:
            raise wait.fault
        if (found := wait.purchase or wait.reached) is not None:
            return found
        purchase = self.wiring.purchases.get(wait.purchase_id)
        if wait.is_there(purchase.status) or purchase.needs_approval:
            return purchase
        return replace(purchase, blocker=self.wiring.blockers.of(purchase))

    async def off_loop(self, call: Callable[[], T]) -> T:
        """Run a short call in the coordinator's own threads, never in the event loop's.

        CoordinatorClosed when a close comes before the call began.
        """
        self.opened  # noqa: B018 - closed or forked is told, not waited for
        # What is logged there belongs to the request that the caller answers.
        within = contextvars.copy_context().run
        try:
            called = self._threads.submit(within, call)
        except RuntimeError:
            self._raise_if_closing()
            raise
        try:
            return await asyncio.wrap_future(called)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                # Taken out of the queue; nobody cancelled the caller.
                self._raise_if_closing()
            raise

    def _raise_if_closing(self) -> None:
        if self._closing:
            raise CoordinatorClosed("this coordinator is closed: open another one") from None

    def _wait_for_order(self, order: Order, timeout_seconds: float) -> Order:
        """Return the order when it is done or failed, needs more approvers, or at the timeout."""
        deadline, w = time.monotonic() + timeout_seconds, self.wiring
        with w.changes.watching(order.id) as told:
            while order.status != "awaiting_approval":
                told.clear()
                order = next(o for o in w.operations.orders() if o.id == order.id)
                left = deadline - time.monotonic()
                if order.status != "approved" or left <= 0:
                    break
                self.raise_fault()
                told.wait(min(left, _POLL_SECONDS))
        return order

    def raise_fault(self) -> None:
        """Raise the fault that stopped this process's executor, if any."""
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
