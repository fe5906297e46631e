"""Run the executor's rounds: hold the lease, follow the chain, make the calls that are due."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

from coordinator.domain.errors import (
    ChainUnavailable,
    LeaseLost,
    LedgerTampered,
    LedgerUnavailable,
)
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Chain, Clock, KillPoint, Observation, Reach, Ticks
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.usdc import Usdc
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.due import Work
from coordinator.executor.failover import EndpointFailover
from coordinator.executor.sender import Sender
from coordinator.executor.watch import Watch
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.tx.leases import Lease, new_holder
from coordinator.ledger.tx.pausing import Pause

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 10
_DRIFT_SECONDS: Final = 60
_POLICY_READS: Final = 3


class Executor:
    """One thread of work for one signer. Acts only while it holds the lease.

    ``follow`` brings the books to a block; ``changed`` is called after every round that wrote
    something. A fault that can't be (ImpossibleState, a failed assertion) stops it: ``fault``.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        ledger: Ledger,
        checkpoint: Checkpoint,
        follow: Callable[[Observation], int],
        drift: Callable[[], Usdc],
        upkeep: Callable[[int], None],
        allowance_limit: Usdc,
        max_fee_wei: int | None,
        clock: Clock,
        ticks: Ticks,
        reach: Reach,
        changed: Callable[[], None] = lambda: None,
        poll_seconds: float = 0.2,
    ) -> None:
        self._chain = chain
        self._books = ledger.books
        self._leases = ledger.leases
        self._approvals = ledger.approvals
        self._policies = ledger.policies
        self._operations = ledger.operations
        self._checkpoint = checkpoint
        self._follow = follow
        self._drift = drift
        self._upkeep = upkeep
        self._drift_looked_at: float | None = None
        self._ticks = ticks
        self._clock = clock
        self._reach = reach
        self._sender = Sender(
            chain=chain,
            steps=ledger.steps,
            lane=ledger.lane,
            clock=clock,
            ticks=ticks,
            reach=reach,
            max_fee_wei=max_fee_wei,
            checkpoint=checkpoint,
        )
        self._work = Work(
            chain=chain,
            bonds=ledger.bonds,
            purchases=ledger.purchases,
            operations=ledger.operations,
            allowance_limit=allowance_limit,
            clock=clock,
            ticks=ticks,
        )
        self._watch = Watch(
            purchases=ledger.purchases, notices=ledger.notices, clock=clock, ticks=ticks
        )
        self._failover = EndpointFailover(
            chain=chain, ticks=ticks, waiting=lambda: bool(self._sender.in_flight())
        )
        self._changed = changed
        self._poll_seconds = poll_seconds
        self._holder = new_holder()
        self._lease: Lease | None = None
        self._lease_renewed = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._round = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._followed = False
        self.fault: BaseException | None = None
        #: Why the last round could not be done, for people; None when it was.
        self.trouble: str | None = None

    def start(self) -> None:
        """Work in a background thread until ``stop``; a second start changes nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="coordinator-executor", daemon=True
                )
                self._thread.start()

    def wait_for_look(self, timeout_seconds: float) -> bool:
        """Wait until the chain was followed once since ``start``; False at the timeout.

        While another executor acts there is nothing to wait for: it follows the chain.
        """
        return self._looked.wait(timeout_seconds)

    def wake(self) -> None:
        """Start the next round at once."""
        self._woken.set()

    def stop(self) -> None:
        """Stop after the current round and let another process act at once."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._round:
            if self._lease is not None:
                self._leases.release(self._lease)
                self._lease = None

    @property
    def starting(self) -> bool:
        """Whether it was started and has not followed the chain yet."""
        return self._thread is not None and not self._followed

    @property
    def acting(self) -> bool:
        """Whether this executor holds the lease."""
        return self._lease is not None

    def run_once(self) -> bool:
        """Run one round: follow the chain, then make the calls due. False without the lease.

        LedgerTampered, and spending pauses, when the database tells what its log does not.
        """
        with self._round, self._failover.round(), self._pausing_if_tampered():
            if not self._hold_lease():
                self._looked.set()
                return False
            assert self._lease is not None
            cursor = self._books.cursor()
            seen = self._failover.observe(cursor.number if cursor else 0)
            now = self._clock()
            self._operations.store_balances(self._chain.treasury, seen, now=now)
            self._sender.adopt_nonces(self._lease, seen)
            self._follow(seen)
            self._failover.followed(seen)
            self._sender.look_for_receipts(seen, self._books.cursor())
            self._followed = True
            self._looked.set()
            self._approvals.expire_due(now)
            self._approvals.tell_expiring(now)
            self._upkeep(now)
            self._look_for_drift()
            if not self._hold_lease():
                return False
            if self._checkpoint.advance(now=now):
                self._do_what_is_due(seen)
            final = self._books.final()
            if final is not None and self._books.end_holds(final.number, now=now):
                self._reach(KillPoint.HOLDS_ENDED)
            self._changed()
            return True

    @contextlib.contextmanager
    def _pausing_if_tampered(self) -> Iterator[None]:
        try:
            yield
        except LedgerTampered as fault:
            self._operations.report_tampering("database", fault.what, now=self._clock())
            raise

    def _policy(self) -> Policy:
        """Return the policy in force; LedgerTampered unless the worker saw it come into force."""
        for _ in range(_POLICY_READS):
            policy = self._policies.current()
            if self._checkpoint.policy in (None, policy.hash):
                return policy
            # It may have changed since the log was verified.
            self._checkpoint.advance(now=self._clock())
        raise LedgerTampered(f"policy {policy.hash[:12]}… is not the one last put in force")

    def _look_for_drift(self) -> None:
        """Pause spending when the balance differs from the journal."""
        ticks, last = self._ticks(), self._drift_looked_at
        if last is not None and ticks - last < _DRIFT_SECONDS:
            return
        drift, allowed = self._drift(), self._policies.current().alerts.drift_above
        # A look that failed was none.
        self._drift_looked_at = ticks
        if self._watch.look_at_drift(drift, allowed):
            why = (
                f"the treasury's balance and the journal differ by {drift} USDC; at most {allowed}"
                " is allowed: run `coordinator reconcile`, explain the difference, then unpause"
            )
            self._operations.pause(Pause("organisation", "", why, by="executor", at=self._clock()))

    def idle(self) -> bool:
        """Return whether nothing is in flight and no purchase waits for this executor."""
        if self._sender.in_flight() or self._operations.orders("approved"):
            return False
        waiting = (Status.APPROVED, Status.CREATED)
        return not any(p.status in waiting and not p.stranded for p in self._books.open_purchases())

    def _run(self) -> None:
        pause = self._poll_seconds
        while not self._stopping.is_set():
            try:
                self.run_once()
                pause, self.trouble = self._poll_seconds, None
            except (ChainUnavailable, LedgerUnavailable) as fault:
                log.warning("executor_waits reason=%s", fault)
                self.trouble = str(fault)
                pause = min(pause * 2, 5.0)
            except LeaseLost:
                log.warning("executor_lease_lost")
                self._lease = None
            except Exception as fault:
                log.exception("executor_stopped")
                self.fault = fault
                self._changed()
                return
            self._woken.wait(pause)
            self._woken.clear()

    def _hold_lease(self) -> bool:
        now = self._ticks()
        if self._lease is None or now - self._lease_renewed > LEASE_SECONDS / 4:
            before = self._lease
            self._lease = self._leases.acquire(self._holder, seconds=LEASE_SECONDS)
            self._lease_renewed = now
            if self._lease is not None and before is None:
                log.info("executor_acts holder=%s token=%s", self._holder, self._lease.token)
                self._checkpoint.take_over()
                self._sender.take_over()
                self._watch.take_over()
        return self._lease is not None

    def _do_what_is_due(self, seen: Observation) -> None:
        assert self._lease is not None
        self._sender.repair(self._lease, seen)
        self._sender.bump(self._lease, seen)
        self._sender.send_again()
        policy, purchases = self._policy(), self._books.open_purchases()
        self._watch.look(policy, purchases, seen)
        in_flight = self._sender.in_flight()
        self._watch.look_at_lane(in_flight, self._sender.refused(in_flight))
        if seen.fees is not None:
            room = self._sender.room(in_flight)
            final = self._books.final()
            calls = self._work.due(
                self._lease,
                policy,
                purchases,
                seen,
                in_flight,
                room,
                final_number=final.number if final else 0,
            )
            self._sender.send_new(self._lease, calls, seen)
