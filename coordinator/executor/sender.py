"""Steps on their way: signed once, persisted before they are sent, sent until there is evidence."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.gas import Fees
from coordinator.domain.ports import Chain, Clock, KillPoint, Observation, Reach, Sent
from coordinator.domain.steps import Attempt, Call, Receipt, Step
from coordinator.ledger.leases import Lease
from coordinator.ledger.steps import StepBook

log = logging.getLogger(__name__)

_RESEND_SECONDS: Final = 4
_DISPLACED_AFTER_LOOKS: Final = 4
# Nodes keep a limited queue for each sender; what does not fit waits for the next round.
_IN_FLIGHT_MAX: Final = 240


class Sender:
    """The signer's nonce lane. A send proves nothing: only receipts and used nonces do."""

    def __init__(
        self,
        *,
        chain: Chain,
        steps: StepBook,
        clock: Clock,
        reach: Reach,
    ) -> None:
        self._chain = chain
        self._steps = steps
        self._clock = clock
        self._reach = reach
        self._sent_at: dict[str, float] = {}
        self._missing: dict[int, tuple[int, int]] = {}

    def in_flight(self) -> list[Step]:
        """Steps that could still be mined, in nonce order."""
        return self._steps.in_flight()

    def room(self, in_flight: Sequence[Step]) -> int:
        """How many more calls a node's queue for one sender takes."""
        return max(0, _IN_FLIGHT_MAX - len(in_flight))

    def take_over(self) -> None:
        """Forget when bytes were sent, so that all of them are sent at once."""
        self._sent_at.clear()

    def send_new(self, lease: Lease, calls: Sequence[Call], seen: Observation) -> None:
        """Give the calls nonces, sign, store, and only then send."""
        assert seen.fees is not None
        if not calls:
            return
        self._reach(KillPoint.BEFORE_ALLOCATE)
        steps = self._steps.allocate(lease, calls, nonce_floor=seen.nonce, now=self._clock())
        self._reach(KillPoint.STEPS_ALLOCATED)
        if steps:
            self._sign_and_send(lease, steps, seen.fees)

    def look_for_receipts(self, seen: Observation, *, readable: int) -> None:
        """Keep the evidence of steps mined in blocks up to ``readable``, whose events are booked.

        A receipt of a later block waits: its events may not be in the books yet.
        """
        in_flight = [step for step in self._steps.in_flight() if step.attempts]
        if not in_flight:
            return
        hashes = [attempt.hash for step in in_flight for attempt in step.attempts]
        receipts = self._chain.receipts(hashes)
        self._reach(KillPoint.RECEIPTS_READ)
        proved = []
        for step in in_flight:
            receipt = next((receipts[a.hash] for a in step.attempts if a.hash in receipts), None)
            if receipt is None:
                self._look_at_missing(step, seen)
            elif receipt.block_number <= readable:
                reason = None
                if not receipt.succeeded:
                    reason = self._why_reverted(step, receipt)
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

    def _why_reverted(self, step: Step, receipt: Receipt) -> str:
        try:
            said = self._chain.refusal(step.call, block_number=receipt.block_number)
        except ChainUnavailable:
            # Nodes forget old states. The receipt is the proof; the words are for people.
            said = None
        return said or "the contract refused it"

    def _look_at_missing(self, step: Step, seen: Observation) -> None:
        if seen.nonce <= step.nonce:
            self._missing.pop(step.id, None)
            return
        # The nonce is used and none of our hashes has a receipt: a slow node, or a stranger. Only
        # a stranger's is still there once that block is final.
        looks, head = self._missing.get(step.id, (0, seen.head.number))
        self._missing[step.id] = (looks + 1, head)
        if looks + 1 >= _DISPLACED_AFTER_LOOKS and seen.final_number >= head:
            log.error("foreign_transaction nonce=%s step=%s", step.nonce, step.kind)
            self._steps.displace(step, now=self._clock())
            self._missing.pop(step.id)

    def finish_signing(self, lease: Lease, seen: Observation) -> None:
        """Sign steps that own a nonce and nothing else: what a crash or a pause left."""
        unsigned = [step for step in self._steps.in_flight() if not step.attempts]
        if unsigned and seen.fees is not None:
            self._sign_and_send(lease, unsigned, seen.fees)

    def send_again(self) -> None:
        """Send the same bytes once more of what is not mined yet."""
        now = time.monotonic()
        due = [
            attempt
            for step in self._steps.in_flight()
            for attempt in step.attempts[-1:]
            if now - self._sent_at.get(attempt.hash, -1e9) >= _RESEND_SECONDS
        ]
        if due:
            self._send(due)

    def _sign_and_send(self, lease: Lease, steps: Sequence[Step], fees: Fees) -> None:
        signed = [
            (step, self._chain.sign(step.call, nonce=step.nonce, fees=fees)) for step in steps
        ]
        self._reach(KillPoint.ATTEMPTS_SIGNED)
        kept = self._steps.store_attempts(lease, signed, fill=self._chain.fill(), now=self._clock())
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
