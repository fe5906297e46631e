"""The executor's rounds: hold the lease, follow the chain, do what is due."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from coordinator.domain.chain.accounts import open_at
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.steps import Call, Receipt, Step
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Chain, Clock, KillPoint, Observation, Reach, Ticks
from coordinator.domain.purchase.planning import OpenPurchase
from coordinator.domain.usdc import Usdc
from coordinator.executor.authorising import Authorising
from coordinator.executor.beliefs import Beliefs
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.drift import Drift
from coordinator.executor.due import Work
from coordinator.executor.failover import EndpointFailover
from coordinator.executor.former_port import Former
from coordinator.executor.sender import Sender
from coordinator.executor.tempo import Pace
from coordinator.executor.top_ups import TopUps
from coordinator.executor.watch import Watch
from coordinator.garbage import seldom_collected
from coordinator.ledger.chain.freeing import is_kept_back
from coordinator.ledger.chain.open_purchases import Waiting
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.proofs.evidence import Seen
from coordinator.ledger.tx.leases import Lease, new_holder

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 10
RENEW_SECONDS: Final = LEASE_SECONDS / 4

Follow = Callable[[Observation, bool], Mapping[str, Receipt] | None]
"""Brings the books to a block, and what is final where asked; the receipts that it read."""


class Rounds:
    """Rounds of work for one signer. They act only while the lease is held.

    ``follow`` brings the books to what was seen of the chain.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        ledger: Ledger,
        checkpoint: Checkpoint,
        follow: Follow,
        drift: Callable[[Observation], Usdc],
        upkeep: Callable[[int], None],
        allowance_limit: Usdc | None,
        max_fee_wei: int | None,
        clock: Clock,
        ticks: Ticks,
        reach: Reach,
        formers: Sequence[Former] = (),
        authorising: Authorising | None = None,
    ) -> None:
        self._chain = chain
        self._authorising = authorising
        self._formers = formers
        self._books = ledger.books
        self._accounts = ledger.accounts
        self._unused = ledger.unused
        self._leases = ledger.leases
        self._approvals = ledger.approvals
        self._policies = ledger.policies
        self._operations = ledger.operations
        self._changes = ledger.changes
        self._checkpoint = checkpoint
        self._follow = follow
        self._upkeep = upkeep
        # Whether this executor has made the wallet an account of the journal, or found it so.
        self._knows_wallet = False
        self._ticks = ticks
        self._clock = clock
        self._reach = reach
        self._steps = ledger.steps
        self._beliefs = Beliefs(ledger, checkpoint, chain.safes, clock)
        self._sender = Sender(
            chain=chain,
            steps=ledger.steps,
            lane=ledger.lane,
            clock=clock,
            ticks=ticks,
            reach=reach,
            max_fee_wei=max_fee_wei,
            checkpoint=checkpoint,
            believed=self._believed,
        )
        self._watch = Watch(
            purchases=ledger.purchases, notices=ledger.notices, clock=clock, ticks=ticks
        )
        self._drift = Drift(ledger, self._watch, drift, clock=clock, ticks=ticks)
        self._work = self._new_work(
            ledger,
            chain=chain,
            bonds=ledger.bonds,
            purchases=ledger.purchases,
            operations=ledger.operations,
            allowance_limit=allowance_limit,
            clock=clock,
            ticks=ticks,
        )
        self._failover = EndpointFailover(
            chain=chain, ticks=ticks, waiting=self._sender.any_in_flight
        )
        # What the last round followed; None where it has to be read anew.
        self._seen: Observation | None = None
        # The pauses that hold purchases back, as the audit log names them.
        self._held_by: frozenset[str] = frozenset()
        # Ids and keys of the escrows whose moves are followed.
        self._open_escrows: frozenset[str] = frozenset()
        # Nonces of payments for HTTP requests that may be taken.
        self._open_payments: frozenset[str] = frozenset()
        self._holder = new_holder()
        self._lease: Lease | None = None
        self._lease_renewed = 0.0
        self._round = threading.Lock()
        self._looked = threading.Event()
        self._followed = False

    def _new_work(self, ledger: Ledger, *, chain: Chain, clock: Clock, **terms: Any) -> Work:
        """Make the planner of this account's calls."""
        return Work(
            chain=chain,
            clock=clock,
            usdc_comes=lambda: any(former.sends_usdc for former in self._formers),
            top_ups=TopUps(
                chain=chain,
                book=ledger.top_ups,
                operations=ledger.operations,
                watch=self._watch,
                followed=self._followed_accounts,
                believed=lambda: self._checkpoint.seen(clock()),
                clock=clock,
            ),
            **terms,
        )

    @property
    def acting(self) -> bool:
        """Whether this executor holds the lease."""
        return self._lease is not None

    def run_once(self) -> bool:
        """One round: follow the chain, then do what is due. False without the lease.

        LedgerTampered, and spending pauses, when the database tells what its log does not.
        """
        return self.run_round(quick=False, again=False)

    def run_round(
        self, *, quick: bool, again: bool, finalise: bool = True, head: Block | None = None
    ) -> bool:
        """Run a round; ``again`` goes on with what was seen while the chain has the same head.

        A ``quick`` one reads no more of the chain's present than changes from head to head, and
        without ``finalise`` nothing becomes final in the books. ``head`` is the newest block where
        it was just read.
        """
        with self._round, self._failover.round(), self._pausing_if_tampered(), seldom_collected():
            if not self._hold_lease():
                self._looked.set()
                return False
            self._authorise()
            # A round that fails leaves nothing for the next one to go on with.
            seen, self._seen = self._seen if again else None, None
            if seen is not None:
                head = self._chain.head()
            if seen is None or _is_news(head, seen):
                seen = self._follow_chain(quick, finalise, head)
            now = self._clock()
            self._keep_house(now)
            self._drift.look(seen)
            if not self._hold_lease():
                return False
            if self._checkpoint.advance(now=now) and self._may_sign():
                self._do_what_is_due(seen)
            final = self._books.final()
            if final is not None:
                self._end_final(final, now)
            self._seen = seen
            self._done(seen)
            for former in self._formers:
                former.run_round(quick=quick, again=False, finalise=finalise)
            return True

    def _end_final(self, final: Block, now: int) -> None:
        """End the holds of what the chain can't take back, and what nobody can take any more."""
        assert self._lease is not None
        within = self._policies.current().escrow.create_within
        unused = self._unused.end(self._lease, final, create_within=within, now=now)
        if self._books.end_holds(final.number, now=now) or unused:
            self._reach(KillPoint.HOLDS_ENDED)

    def _authorise(self) -> None:
        """Sign what pays for HTTP requests, before anything that waits for the chain."""
        wallet, now = self._authorising, self._clock()
        waiting = wallet.next_ones() if wallet is not None else ()
        if wallet is None or not waiting or not self._checkpoint.advance(now=now):
            return
        assert self._lease is not None
        if wallet.address not in self._followed_accounts():
            return
        block = self._seen.head if self._seen is not None else None
        self._beliefs.policy()
        wallet.sign(self._lease, waiting, self._beliefs.seen(waiting, block=block))
        # Whoever waits for it is told while the round goes on.
        self._changes.look()

    def release(self) -> None:
        """Let another process act at once."""
        with self._round:
            if self._lease is not None:
                self._leases.release(self._lease)
                self._lease = None
        for former in self._formers:
            former.release()

    def _was_followed(self, seen: Observation, finalised: bool) -> None:
        """Called whenever the books were brought to what was seen."""

    def _done(self, seen: Observation) -> None:
        """Called after every whole round."""

    def _follow_chain(self, quick: bool, finalise: bool, head: Block | None) -> Observation:
        """Read the chain's present, bring the books to it, and store the receipts."""
        assert self._lease is not None
        cursor = self._books.cursor()
        seen = self._failover.observe(cursor.number if cursor else 0, quick=quick, head=head)
        if not self._knows_wallet:
            self._accounts.follow_wallet(now=self._clock())
            self._knows_wallet = True
        self._operations.store_balances(self._chain.treasury, seen, now=self._clock())
        self._sender.adopt_nonces(self._lease, seen)
        receipts = self._follow(seen, finalise)
        self._failover.followed(seen)
        self._sender.store_receipts(seen, self._books.cursor(), receipts)
        # Whoever waits for what came is told while the round goes on.
        self._changes.look()
        self._followed = True
        self._looked.set()
        self._was_followed(seen, finalise)
        return seen

    def _new_head(self) -> Block | None:
        """Look, in one call, for a block after the one that was followed last."""
        with self._failover.round():
            head = self._chain.head()
        return head if self._seen is None or _is_news(head, self._seen) else None

    def _has_news(self) -> bool:
        """Look, in a call or two, for logs since the books' block, with moves of open escrows."""
        cursor = self._books.cursor()
        if cursor is None:
            return True
        with self._failover.round():
            return self._chain.anything_after(
                cursor.number, escrows=self._open_escrows, payments=self._open_payments
            )

    def _keep_house(self, now: int) -> None:
        """Do what the clock alone makes due."""
        self._approvals.expire_due(now)
        self._approvals.tell_expiring(now)
        self._upkeep(now)

    @contextlib.contextmanager
    def _pausing_if_tampered(self) -> Iterator[None]:
        try:
            yield
        except LedgerTampered as fault:
            self._operations.report_tampering("database", fault.what, now=self._clock())
            raise

    def _believed(self, calls: Sequence[Call], seen: Observation) -> Seen:
        subjects = filter(None, (call.purchase_id or call.reference for call in calls))
        return self._beliefs.seen(subjects, block=seen.head)

    def idle(self) -> bool:
        """Return whether nothing is in flight and no purchase waits for this executor."""
        if self._sender.any_in_flight() or self._operations.orders("approved"):
            return False
        if any(former.busy for former in self._formers):
            return False
        return not self._books.in_progress().waiting

    def _pace(self, seen: Observation) -> Pace:
        """Return the pace; what people or the rail hold back is looked for no oftener than open."""
        progress = self._books.in_progress()
        self._open_escrows, self._open_payments = progress.escrows, progress.payments
        waiting = self._released(progress.waiting)
        orders = self._operations.orders("approved")
        to_sign = orders or (waiting and seen.rail_trouble is None)
        on_its_way = self._sender.any_in_flight() or any(former.busy for former in self._formers)
        if on_its_way or (to_sign and seen.fees is not None):
            return Pace.BUSY
        return Pace.OPEN if progress.purchases or orders else Pace.IDLE

    def _released(self, waiting: Sequence[Waiting]) -> Sequence[Waiting]:
        """Return those that no pause holds back, and note which pauses hold the others."""
        paused = {(p.scope_kind, p.scope_id): str(p) for p in self._operations.pauses()}
        if not paused or not waiting:
            self._held_by = frozenset()
            return waiting
        policy = self._policies.current()
        stops = [policy.stops(p.agent, p.provider_name) & paused.keys() for p in waiting]
        self._held_by = frozenset(paused[stop] for found in stops for stop in found)
        return [purchase for purchase, found in zip(waiting, stops, strict=True) if not found]

    def _hold_lease(self) -> bool:
        now = self._ticks()
        if self._lease is None or now - self._lease_renewed > RENEW_SECONDS:
            before = self._lease
            self._lease = self._leases.acquire(self._holder, seconds=LEASE_SECONDS)
            self._lease_renewed = now
            if self._lease is not None and before is None:
                log.info("executor_acts holder=%s token=%s", self._holder, self._lease.token)
                self._checkpoint.take_over(now=self._clock())
                self._sender.take_over()
                self._seen, self._knows_wallet = None, False
                self._watch.take_over()
                # Whoever works only where the lease is held begins now.
                self._changes.look()
        return self._lease is not None

    def _do_what_is_due(self, seen: Observation) -> None:
        assert self._lease is not None
        self._sender.miss_nonces(self._lease, seen)
        in_flight = self._sender.tend(self._lease, seen)
        policy, every = self._beliefs.policy(), self._books.open_purchases()
        if self._free_kept_back(self._lease, every, seen):
            every = self._books.open_purchases()
        self._tell(policy, every, seen, in_flight)
        purchases = [purchase for purchase in every if self._is_mine(purchase)]
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

    def _free_kept_back(
        self, lease: Lease, purchases: Sequence[OpenPurchase], seen: Observation
    ) -> bool:
        """Let those go on that this worker refused before, and would sign for by now."""
        mine = (p for p in purchases if self._is_mine(p))
        kept = {p.id: p.stranded for p in mine if p.stranded and is_kept_back(p.stranded)}
        if not kept:
            return False
        believed = self._beliefs.seen(kept, block=seen.head)
        return self._steps.free_kept_back(lease, kept, seen=believed, now=self._clock())

    def _tell(
        self,
        policy: Policy,
        purchases: Sequence[OpenPurchase],
        seen: Observation,
        in_flight: Sequence[Step],
    ) -> None:
        """Tell people what they have to look at."""
        self._watch.look(policy, purchases, seen)
        self._watch.look_at_lane(in_flight, self._sender.refused(in_flight))

    def _may_sign(self) -> bool:
        """Whether the journal follows this account by now, in every block that is to come."""
        return self._chain.treasury in self._followed_accounts()

    def _followed_accounts(self) -> Sequence[str]:
        cursor = self._books.cursor()
        return open_at(self._books.accounts(), cursor.number + 1) if cursor is not None else ()

    def _is_mine(self, purchase: OpenPurchase) -> bool:
        """Whether this account goes on with it: nobody has begun, or this account has."""
        ours = {self._chain.treasury.lower(), self._chain.account.lower()}
        return (purchase.signer or self._chain.treasury).lower() in ours


def _is_news(head: Block | None, seen: Observation) -> bool:
    """Whether a head was not followed yet; a lower one is that of a node that is behind."""
    return head is None or (head.number >= seen.head.number and head != seen.head)
