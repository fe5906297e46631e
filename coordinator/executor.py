"""Drives approved purchases to funded and open ones to their end, and recovers after a crash."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordinator.domain.chain_events import EMPTY, EscrowState
from coordinator.domain.errors import (
    ChainUnavailable,
    LeaseLost,
    LedgerUnavailable,
    TxReverted,
)
from coordinator.domain.gas import GAS_LIMITS, Fees, reserve_wei
from coordinator.domain.planning import Action, OpenPurchase, Plan, plan
from coordinator.domain.policy import Policy
from coordinator.domain.ports import Chain, Clock, KillPoint, Observation, Reach, Sent
from coordinator.domain.purchase import Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.steps import Attempt, Call, Step, StepKind
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.approvals import ApprovalBook
from coordinator.ledger.chain_book import ChainBook
from coordinator.ledger.operations import OperationsBook, Order
from coordinator.ledger.policies import PolicyBook
from coordinator.ledger.purchases import PurchaseBook
from coordinator.ledger.steps import Lease, StepBook, new_holder

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 10
_RESEND_SECONDS: Final = 4
_RETRY_SECONDS: Final = 10
_DISPLACED_AFTER_LOOKS: Final = 4
# Nodes keep a limited queue for each sender; what does not fit waits for the next round.
_IN_FLIGHT_MAX: Final = 240


@dataclass(slots=True)
class Lane:
    """The treasury's money as it will be when everything in flight has been mined."""

    usdc: Usdc
    allowance: Usdc
    gas_free_wei: int
    create_nonce: int
    calls: list[Call] = field(default_factory=list)

    @classmethod
    def of(cls, seen: Observation, in_flight: Iterable[Step], reserved_wei: int) -> Lane:
        lane = cls(
            seen.usdc_balance,
            seen.usdc_allowance,
            seen.gas_balance_wei - reserved_wei,
            seen.create_nonce,
        )
        for step in in_flight:
            if step.nonce >= seen.nonce:
                lane._account(step.call)
        return lane

    def add(self, call: Call) -> None:
        self._account(call)
        self.calls.append(call)

    def _account(self, call: Call) -> None:
        if call.kind is StepKind.APPROVE:
            self.allowance = call.usdc or ZERO
        elif call.kind in (StepKind.LINK, StepKind.DISPUTE) and call.usdc is not None:
            self.usdc -= call.usdc
            self.allowance -= call.usdc
        elif call.kind is StepKind.WITHDRAW and call.usdc is not None:
            self.usdc -= call.usdc
        elif call.kind is StepKind.CREATE:
            self.create_nonce += 1


class Executor:
    """One thread of work for one signer. Acts only while it holds the lease.

    ``follow`` brings the books to a block; ``changed`` is called after every round that wrote
    something. A fault that can't be (ImpossibleState, a failed assertion) stops it: ``fault``.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        books: ChainBook,
        steps: StepBook,
        purchases: PurchaseBook,
        approvals: ApprovalBook,
        policies: PolicyBook,
        operations: OperationsBook,
        follow: Callable[[int], int],
        allowance_limit: Usdc,
        clock: Clock,
        reach: Reach,
        changed: Callable[[], None] = lambda: None,
        poll_seconds: float = 0.2,
    ) -> None:
        self._chain = chain
        self._books = books
        self._steps = steps
        self._purchases = purchases
        self._approvals = approvals
        self._policies = policies
        self._operations = operations
        self._follow = follow
        self._allowance_limit = allowance_limit
        self._clock = clock
        self._reach = reach
        self._changed = changed
        self._poll_seconds = poll_seconds
        self._holder = new_holder()
        self._lease: Lease | None = None
        self._lease_renewed = 0.0
        self._thread: threading.Thread | None = None
        self._round = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._sent_at: dict[str, float] = {}
        self._looks: dict[int, int] = defaultdict(int)
        self._retry_at: dict[str, float] = {}
        self._told: set[str] = set()
        self.fault: BaseException | None = None

    def start(self) -> None:
        """Work in a background thread until ``stop``; a second start changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="coordinator-executor", daemon=True
            )
            self._thread.start()

    def wake(self) -> None:
        """Look for work at once."""
        self._woken.set()

    def stop(self) -> None:
        """End after the present round and let another process act at once."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._round:
            if self._lease is not None:
                self._steps.release_lease(self._lease)
                self._lease = None

    @property
    def acting(self) -> bool:
        """Whether this executor holds the lease."""
        return self._lease is not None

    def run_once(self) -> bool:
        """One round: follow the chain, then do what is due. False without the lease."""
        with self._round:
            if not self._hold_lease():
                return False
            seen = self._chain.observe()
            now = self._clock()
            self._operations.store_balances(self._chain.treasury, seen, now=now)
            self._follow(seen.readable)
            self._look_for_receipts(seen)
            if self._books.end_holds(min(seen.final_number, seen.readable), now=now):
                self._reach(KillPoint.HOLDS_ENDED)
            self._approvals.expire_due(now)
            self._finish_signing(seen)
            self._send_again()
            self._do_what_is_due(seen)
            self._changed()
            return True

    def idle(self) -> bool:
        """Whether nothing is signed and open, and no purchase waits to be created."""
        if self._steps.in_flight() or self._operations.orders("approved"):
            return False
        waiting = (Status.APPROVED, Status.CREATED)
        return not any(p.status in waiting for p in self._books.open_purchases())

    def _run(self) -> None:
        pause = self._poll_seconds
        while not self._stopping.is_set():
            try:
                self.run_once()
                pause = self._poll_seconds
            except (ChainUnavailable, LedgerUnavailable) as fault:
                log.warning("executor_waits reason=%s", fault)
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
        now = time.monotonic()
        if self._lease is None or now - self._lease_renewed > LEASE_SECONDS / 4:
            before = self._lease
            self._lease = self._steps.acquire_lease(self._holder, seconds=LEASE_SECONDS)
            self._lease_renewed = now
            if self._lease is not None and before is None:
                log.info("executor_acts holder=%s token=%s", self._holder, self._lease.token)
                self._sent_at.clear()
        return self._lease is not None

    def _look_for_receipts(self, seen: Observation) -> None:
        in_flight = [step for step in self._steps.in_flight() if step.attempts]
        if not in_flight:
            return
        hashes = [attempt.hash for step in in_flight for attempt in step.attempts]
        receipts = self._chain.receipts(hashes)
        self._reach(KillPoint.RECEIPTS_READ)
        cursor = self._books.cursor()
        readable = min(seen.readable, cursor.number if cursor else -1)
        proved = []
        for step in in_flight:
            receipt = next((receipts[a.hash] for a in step.attempts if a.hash in receipts), None)
            if receipt is None:
                self._look_at_missing(step, seen)
            elif receipt.block_number <= readable:
                reason = None
                if not receipt.succeeded:
                    said = self._chain.refusal(step.call, block_number=receipt.block_number)
                    reason = said or "the contract refused it"
                    log.warning(
                        "step_reverted step=%s purchase_id=%s reason=%s",
                        step.kind,
                        step.call.purchase_id,
                        reason,
                    )
                proved.append((step, receipt, reason))
        self._steps.store_receipts(proved, now=self._clock())
        if proved:
            self._reach(KillPoint.RECEIPTS_STORED)
        self._end_orders([(step, r.succeeded, why) for step, r, why in proved])

    def _look_at_missing(self, step: Step, seen: Observation) -> None:
        if seen.nonce <= step.nonce:
            self._looks.pop(step.id, None)
            return
        # The nonce is used and none of our hashes has a receipt: a slow node, or a stranger.
        self._looks[step.id] += 1
        if self._looks[step.id] >= _DISPLACED_AFTER_LOOKS:
            log.error("foreign_transaction nonce=%s step=%s", step.nonce, step.kind)
            self._steps.displace(step, now=self._clock())
            self._end_orders([(step, False, "another transaction took its nonce")])
            self._looks.pop(step.id)

    def _end_orders(self, ended: Iterable[tuple[Step, bool, str | None]]) -> None:
        for step, succeeded, why in ended:
            if step.call.reference is not None:
                status = "done" if succeeded else "failed"
                self._operations.end_order(
                    step.call.reference, status, message=why, now=self._clock()
                )

    def _finish_signing(self, seen: Observation) -> None:
        """Sign steps that own a nonce and nothing else: what a crash or a pause left."""
        unsigned = [step for step in self._steps.in_flight() if not step.attempts]
        if unsigned and seen.fees is not None:
            self._sign_and_send(unsigned, seen.fees)

    def _send_again(self) -> None:
        now = time.monotonic()
        due = [
            attempt
            for step in self._steps.in_flight()
            for attempt in step.attempts[-1:]
            if now - self._sent_at.get(attempt.hash, -1e9) >= _RESEND_SECONDS
        ]
        if due:
            self._send(due)

    def _do_what_is_due(self, seen: Observation) -> None:
        in_flight = self._steps.in_flight()
        if seen.fees is None:
            self._tell("fees", "fees_above_ceiling: nothing is signed until they fall")
            return
        self._told.discard("fees")
        policy = self._policies.current()
        purchases = self._books.open_purchases()
        lane = Lane.of(seen, in_flight, _reserved(purchases, in_flight, seen.fees))
        self._warn(policy, purchases, seen)
        self._plan_purchases(policy, purchases, seen, lane)
        self._plan_disputes(purchases, lane)
        self._plan_orders(self._operations.orders_to_send(), lane)
        calls = self._with_allowance(lane, seen, in_flight)
        room = max(0, _IN_FLIGHT_MAX - len(in_flight))
        calls = calls[:room]
        if not calls:
            return
        assert self._lease is not None
        self._reach(KillPoint.BEFORE_ALLOCATE)
        steps = self._steps.allocate(self._lease, calls, nonce_floor=seen.nonce, now=self._clock())
        self._reach(KillPoint.STEPS_ALLOCATED)
        self._sign_and_send(steps, seen.fees)

    def _plan_purchases(
        self,
        policy: Policy,
        purchases: Sequence[OpenPurchase],
        seen: Observation,
        lane: Lane,
    ) -> None:
        paused = {(p.scope_kind, p.scope_id) for p in self._operations.pauses()}
        disputing = self._books.bonds_to_dispute()
        for purchase in purchases:
            chosen = plan(
                purchase,
                paused=_is_paused(purchase, paused),
                early_settle=_settles_early(policy, purchase, paused),
                disputing=purchase.id in disputing,
                now=self._clock(),
                chain_time=seen.head.at,
                terms=policy.escrow,
            )
            self._carry_out(purchase, chosen, policy, seen, lane)

    def _carry_out(
        self,
        purchase: OpenPurchase,
        chosen: Plan,
        policy: Policy,
        seen: Observation,
        lane: Lane,
    ) -> None:
        escrow_id = chosen.escrow_id or ""
        if chosen.action is Action.FAIL:
            assert chosen.reason is not None
            wanted = chosen.reason.code is ReasonCode.CANCELLED
            status = Status.CANCELLED if wanted else Status.FAILED
            self._purchases.fail(purchase.id, status, chosen.reason, now=self._clock())
            log.info("purchase_%s purchase_id=%s", status, purchase.id)
        elif chosen.action is Action.CREATE:
            if seen.rail_trouble is None:
                self._create(purchase, policy, seen, lane)
        elif chosen.action is Action.LINK:
            self._link(purchase, escrow_id, seen, lane)
        elif chosen.action is Action.CANCEL:
            self._cancel(purchase, escrow_id, chosen.reason, lane)
        elif chosen.action is Action.SETTLE:
            call = self._chain.settle(purchase_id=purchase.id, escrow_id=escrow_id)
            self._try(purchase, call, lane)
        elif chosen.action is Action.RECLAIM:
            call = self._chain.reclaim(purchase_id=purchase.id, escrow_id=escrow_id)
            self._try(purchase, call, lane)

    def _create(
        self, purchase: OpenPurchase, policy: Policy, seen: Observation, lane: Lane
    ) -> None:
        assert seen.fees is not None
        needed_wei = reserve_wei(seen.fees, unstarted=1, unended=0)
        short = self._shortage(purchase, lane, needed_wei)
        if short is not None:
            self._purchases.fail(purchase.id, Status.FAILED, short, now=self._clock())
            log.warning("purchase_failed purchase_id=%s reason=%s", purchase.id, short.message)
            return
        create = self._chain.create(
            purchase_id=purchase.id,
            provider=purchase.provider,
            amount=purchase.amount,
            service=purchase.service,
            deadline=seen.head.at + policy.escrow.deadline_after,
            dispute_window=policy.escrow.dispute_window,
            create_nonce=lane.create_nonce,
        )
        assert create.escrow_id is not None
        lane.gas_free_wei -= needed_wei
        lane.add(create)
        lane.add(
            self._chain.link(
                purchase_id=purchase.id,
                escrow_id=create.escrow_id,
                escrow_key=purchase.escrow_key,
                amount=purchase.amount,
            )
        )

    def _link(self, purchase: OpenPurchase, escrow_id: str, seen: Observation, lane: Lane) -> None:
        if seen.rail_trouble is not None:
            return
        short = self._shortage(purchase, lane, 0)
        if short is not None:
            self._cancel(purchase, escrow_id, short, lane)
            return
        lane.add(
            self._chain.link(
                purchase_id=purchase.id,
                escrow_id=escrow_id,
                escrow_key=purchase.escrow_key,
                amount=purchase.amount,
            )
        )

    def _cancel(
        self, purchase: OpenPurchase, escrow_id: str, reason: Reason | None, lane: Lane
    ) -> None:
        try:
            on_chain = self._chain.escrow(escrow_id)
        except TxReverted:
            return
        if on_chain.state not in EMPTY:
            return
        call = self._chain.cancel(purchase_id=purchase.id, escrow_id=escrow_id)
        if self._try(purchase, call, lane) and reason is not None:
            self._purchases.explain_cancel(purchase.id, reason, now=self._clock())

    def _try(self, purchase: OpenPurchase, call: Call, lane: Lane) -> bool:
        """Queue a call that the contract would accept; else report it as stranded, try later."""
        key = f"{call.kind}:{call.escrow_id}"
        if time.monotonic() < self._retry_at.get(key, 0.0):
            return False
        refusal = self._chain.refusal(call)
        if refusal is None:
            self._retry_at.pop(key, None)
            lane.add(call)
            return True
        self._retry_at[key] = time.monotonic() + _RETRY_SECONDS
        message = (
            f"{purchase.amount} USDC: the contract refuses to {call.kind} it ({refusal});"
            " tried again until it accepts"
        )
        if purchase.stranded != message:
            log.error("purchase_stranded purchase_id=%s reason=%s", purchase.id, refusal)
            self._purchases.note_stranded(purchase.id, message, now=self._clock())
        return False

    def _shortage(self, purchase: OpenPurchase, lane: Lane, needed_wei: int) -> Reason | None:
        if purchase.amount > lane.usdc:
            return Reason(
                ReasonCode.INSUFFICIENT_USDC,
                f"the treasury has {lane.usdc} USDC that is not on its way elsewhere;"
                f" {purchase.amount} are needed",
            )
        if needed_wei > lane.gas_free_wei:
            return Reason(
                ReasonCode.INSUFFICIENT_GAS,
                f"finishing or cancelling it may cost {needed_wei} wei and {lane.gas_free_wei}"
                " wei are not reserved",
            )
        return None

    def _plan_disputes(self, purchases: Sequence[OpenPurchase], lane: Lane) -> None:
        bonds = self._books.bonds_to_dispute()
        for purchase in purchases:
            bond = bonds.get(purchase.id)
            linked = next((e for e in purchase.escrows if e.linked), None)
            if bond is None or linked is None or any(s.in_flight for s in purchase.steps):
                continue
            call = self._chain.dispute(
                purchase_id=purchase.id, escrow_id=linked.escrow_id, bond=bond
            )
            lane.add(call)

    def _plan_orders(self, orders: Sequence[Order], lane: Lane) -> None:
        for order in orders:
            if order.kind == "mint":
                call = self._chain.mint(order_id=order.id, amount=order.amount)
            else:
                call = self._chain.withdraw(
                    order_id=order.id, recipient=order.recipient, amount=order.amount
                )
            refusal = self._chain.refusal(call)
            short = order.kind == "withdraw" and order.amount > lane.usdc
            if refusal is not None or short:
                why = refusal or "purchases on their way need the USDC"
                self._operations.end_order(order.id, "failed", message=why, now=self._clock())
                continue
            lane.add(call)

    def _with_allowance(
        self, lane: Lane, seen: Observation, in_flight: Sequence[Step]
    ) -> list[Call]:
        """The lane's calls, behind an approval when the allowance would not last for them.

        The approval stands in the same nonce lane, so links before it use the old allowance and
        links after it the new one: nothing races.
        """
        pulls = (StepKind.LINK, StepKind.DISPUTE)
        needed = sum((c.usdc.base_units for c in lane.calls if c.kind in pulls and c.usdc), 0)
        if not needed or lane.allowance >= ZERO:
            return lane.calls
        amount = max(self._allowance_limit, Usdc.from_base_units(needed))
        return [self._chain.approve(amount), *lane.calls]

    def _sign_and_send(self, steps: Sequence[Step], fees: Fees) -> None:
        assert self._lease is not None
        signed = [
            (step, self._chain.sign(step.call, nonce=step.nonce, fees=fees)) for step in steps
        ]
        self._reach(KillPoint.ATTEMPTS_SIGNED)
        kept = self._steps.store_attempts(
            self._lease, signed, fill=self._chain.fill(), now=self._clock()
        )
        self._reach(KillPoint.ATTEMPTS_STORED)
        if kept:
            self._send(kept)
            self._reach(KillPoint.ATTEMPTS_SENT)

    def _send(self, attempts: Sequence[Attempt]) -> None:
        answers = self._chain.send([attempt.raw for attempt in attempts])
        now = time.monotonic()
        for attempt, answer in zip(attempts, answers, strict=True):
            self._sent_at[attempt.hash] = now
            if answer.sent is Sent.INSUFFICIENT_FUNDS:
                log.error("gas_exhausted tx_hash=%s said=%s", attempt.hash, answer.said)
            elif answer.sent is Sent.UNKNOWN:
                log.warning("send_unknown tx_hash=%s said=%s", attempt.hash, answer.said)

    def _warn(self, policy: Policy, purchases: Sequence[OpenPurchase], seen: Observation) -> None:
        if seen.gas_balance_wei < policy.alerts.gas_balance_below_eth:
            self._tell("gas", f"gas_balance_low wei={seen.gas_balance_wei}")
        else:
            self._told.discard("gas")
        if seen.rail_trouble:
            self._tell("rail", f"rail_trouble reason={seen.rail_trouble}")
        else:
            self._told.discard("rail")
        for purchase in purchases:
            self._warn_of(purchase, policy, seen)

    def _warn_of(self, purchase: OpenPurchase, policy: Policy, seen: Observation) -> None:
        escrow = next((e for e in purchase.escrows if e.linked), None)
        if escrow is None:
            return
        closes = escrow.window_ends
        soon = closes is not None and closes - seen.head.at <= policy.alerts.window_closes_within
        if escrow.state is EscrowState.DELIVERED and soon:
            self._tell(f"window:{purchase.id}", f"dispute_window_closes purchase_id={purchase.id}")
        late = seen.head.at > escrow.deadline
        if escrow.state is EscrowState.STARTED and late and purchase.stranded is None:
            message = (
                f"{purchase.amount} USDC: the provider started and did not deliver by the"
                " deadline; only the provider can free it"
            )
            log.error("purchase_stranded purchase_id=%s", purchase.id)
            self._purchases.note_stranded(purchase.id, message, now=self._clock())

    def _tell(self, key: str, message: str) -> None:
        if key not in self._told:
            self._told.add(key)
            log.warning(message)


def _is_paused(purchase: OpenPurchase, paused: set[tuple[str, str]]) -> bool:
    scopes = {
        ("organisation", ""),
        ("agent", purchase.agent or ""),
        ("provider", purchase.provider_name or ""),
    }
    return bool(scopes & paused)


def _settles_early(policy: Policy, purchase: OpenPurchase, paused: set[tuple[str, str]]) -> bool:
    if purchase.settle != "on_delivery" or ("provider", purchase.provider_name) in paused:
        return False
    threshold = policy.threshold(purchase.agent or "")
    return threshold is None or purchase.amount <= threshold


def _reserved(purchases: Sequence[OpenPurchase], in_flight: Sequence[Step], fees: Fees) -> int:
    """Wei that purchases on their way may still cost, at the fee ceiling."""
    started = [p for p in purchases if p.steps]
    signed = sum(GAS_LIMITS[step.kind.value] for step in in_flight)
    ends = reserve_wei(fees, unstarted=0, unended=len(started))
    return ends + fees.ceiling_wei(signed, len(in_flight))
