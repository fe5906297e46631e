"""Sign each step once, store it, then send it until the chain has evidence of its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.domain.chain.events import Block
from coordinator.domain.chain.gas import GAS_LIMITS, Fees, bumped_fees, with_tip
from coordinator.domain.chain.steps import UNEXPLAINED, Attempt, Call, Receipt, Step
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import (
    Clock,
    KillPoint,
    Observation,
    Reach,
    SendAnswer,
    Sent,
    Ticks,
    TransactionSender,
)
from coordinator.executor.checkpoint import Checkpoint
from coordinator.ledger.chain.nonce_lane import LaneBook
from coordinator.ledger.chain.steps import StepBook
from coordinator.ledger.proofs.evidence import Seen
from coordinator.ledger.tx.leases import Lease

log = logging.getLogger(__name__)

_RESEND_SECONDS: Final = 4
_DISPLACED_AFTER_LOOKS: Final = 4
# The first of the lane that so many blocks leave out although nodes have it is priced too low.
_STUCK_BLOCKS: Final = 10
# Nodes keep a limited queue for each sender; what does not fit waits for the next round. Whatever
# their limit, they tell it by refusing: then fewer are sent at once.
_IN_FLIGHT_MAX: Final = 2_400
_IN_FLIGHT_MAX_REFUSED: Final = 240
# Blocks take the lane in order: what stands further back is sent again when it comes to the front.
_RESENT_MAX: Final = 240
_REFUSED_SECONDS: Final = 60


@dataclass(slots=True)
class _SentState:
    """Sending state of one attempt: when it was sent, and the block when a node held it.

    ``refused_since`` is when nodes began to say ``refused`` to it, None while one has it.
    """

    sent_at: float
    held_since_block: int | None = None
    refused_since: float | None = None
    refused: SendAnswer | None = None


@dataclass(slots=True)
class _Missing:
    """A used nonce without our receipt: first seen at ``head``, with the transaction found.

    ``ours`` once that was asked about a final block: then it is the receipt that is missing.
    """

    head: int
    looks: int = 0
    taken_by: str | None = None
    ours: bool = False


Believed = Callable[[Sequence[Call], Observation], Seen]
"""The log as the worker has seen it, with what the chain says of the signatures of these calls."""


class Sender:
    """The signer's nonce lane. A send proves nothing: only receipts and used nonces do."""

    def __init__(
        self,
        *,
        chain: TransactionSender,
        steps: StepBook,
        lane: LaneBook,
        clock: Clock,
        ticks: Ticks,
        reach: Reach,
        max_fee_wei: int | None,
        checkpoint: Checkpoint,
        believed: Believed,
    ) -> None:
        self._checkpoint = checkpoint
        self._believed = believed
        self._chain = chain
        self._steps = steps
        self._lane = lane
        self._clock = clock
        self._ticks = ticks
        self._reach = reach
        self._max_fee_wei = max_fee_wei
        self._sent: dict[str, _SentState] = {}
        self._missing: dict[int, _Missing] = {}
        self._not_bumped: set[int] = set()
        self._head = 0

    def any_in_flight(self) -> bool:
        """Whether a step could still be mined."""
        return self._steps.any_in_flight()

    def room(self, in_flight: Sequence[Step]) -> int:
        """Return how many more calls a node's queue for one sender takes."""
        sent = (self._sent.get(step.to_send.hash) for step in in_flight if step.to_send)
        refused = any(state is not None and state.refused is not None for state in sent)
        most = _IN_FLIGHT_MAX_REFUSED if refused else _IN_FLIGHT_MAX
        return max(0, most - len(in_flight))

    def take_over(self) -> None:
        """Forget when bytes were sent, so that the next round sends all of them again."""
        self._sent.clear()

    def adopt_nonces(self, lease: Lease, seen: Observation) -> None:
        """Pause spending when the chain is ahead of the database.

        ChainUnavailable when the count of the chain would change the lane and is not confirmed.
        """
        known = self._lane.unexplained(seen.nonce)
        if known is not None:
            self._chain.confirm_nonce(seen, known=known)
        found = self._lane.adopt(lease, seen.nonce, self._chain.fill(), now=self._clock())
        if found:
            log.error("chain_ahead_of_database nonces=%s", found)

    def miss_nonces(self, lease: Lease, seen: Observation) -> None:
        """Pause spending when the chain is ahead of the audit log, whatever the steps tell."""
        told = self._checkpoint.nonces(seen.account)
        self._lane.miss(lease, told, seen.nonce, now=self._clock())

    def send_new(self, lease: Lease, calls: Sequence[Call], seen: Observation) -> None:
        """Give the calls nonces, sign, store, and only then send."""
        assert seen.fees is not None
        if not calls:
            return
        self._reach(KillPoint.BEFORE_ALLOCATE)
        steps = self._steps.allocate(
            lease,
            calls,
            composed=self._chain.composed,
            nonce_floor=seen.nonce,
            seen=self._believed(calls, seen),
            now=self._clock(),
        )
        self._reach(KillPoint.STEPS_ALLOCATED)
        fees = seen.fees
        self._sign_and_send(lease, [(step, fees) for step in steps], seen)

    def store_receipts(
        self, seen: Observation, cursor: Block | None, receipts: Mapping[str, Receipt] | None
    ) -> None:
        """Keep the evidence of steps mined in blocks whose events are in the books.

        ``receipts`` are those that were read with the events, None to read them now. One of a
        block above ``cursor`` waits: its events may not be in the books yet.
        """
        in_flight = [s for s in self._steps.in_flight() if s.attempts and s.nonce < seen.nonce]
        self._missing = {s.id: self._missing[s.id] for s in in_flight if s.id in self._missing}
        if not in_flight or cursor is None:
            return
        if receipts is None:
            hashes = [attempt.hash for step in in_flight for attempt in step.attempts]
            receipts = self._chain.receipts(hashes)
        if self._may_be_lost(receipts, cursor):
            return
        self._reach(KillPoint.RECEIPTS_READ)
        proved = []
        for step in in_flight:
            receipt = next((receipts[a.hash] for a in step.attempts if a.hash in receipts), None)
            if receipt is None:
                self._look_at_missing(step, seen)
            elif receipt.block_number <= cursor.number:
                # Should the block be lost, the bytes are sent again at once.
                self._sent.pop(receipt.tx_hash, None)
                proved.append((step, receipt, self._revert_reason(step, receipt)))
        self._steps.store_receipts(proved, now=self._clock())
        if proved:
            self._reach(KillPoint.RECEIPTS_STORED)

    def _may_be_lost(self, receipts: Mapping[str, Receipt], cursor: Block) -> bool:
        """Whether the books' block is gone, so that these may be receipts of a fork's blocks.

        It is asked for by its number after the receipts were read, whichever block they name.
        """
        to_store = any(r.block_number <= cursor.number for r in receipts.values())
        return to_store and self._chain.block(cursor.number).hash != cursor.hash

    def _revert_reason(self, step: Step, receipt: Receipt) -> str | None:
        if receipt.succeeded:
            return None
        try:
            said = self._chain.refusal(step.call, block_number=receipt.block_number)
        except ChainUnavailable:
            # Nodes forget old states. The receipt is the proof; the words are for people.
            said = None
        reason = said or UNEXPLAINED
        purchase_id = step.call.purchase_id
        log.warning(
            "step_reverted step=%s purchase_id=%s reason=%s", step.kind, purchase_id, reason
        )
        return reason

    def _look_at_missing(self, step: Step, seen: Observation) -> None:
        # The nonce is used and none of our hashes has a receipt: a slow node, or a stranger. Only
        # a stranger's is still there once that block is final.
        missing = self._missing.setdefault(step.id, _Missing(seen.head.number))
        missing.looks += 1
        if missing.looks < _DISPLACED_AFTER_LOOKS or missing.ours:
            return
        final = seen.final_number >= missing.head
        # Asked early too: nodes forget the states of old blocks.
        if final or missing.looks == _DISPLACED_AFTER_LOOKS:
            # A reorganisation may have moved it to a later block than where it was seen first.
            by = seen.final_number if final else missing.head
            try:
                found = self._chain.mined_at_nonce(step.nonce, by=by)
            except ChainUnavailable as fault:
                log.warning("nonce_not_explained nonce=%s reason=%s", step.nonce, fault)
                return
            missing.taken_by = found or missing.taken_by
        if not final:
            return
        missing.ours = any(attempt.hash == missing.taken_by for attempt in step.attempts)
        if missing.ours:
            log.error("receipt_missing nonce=%s tx_hash=%s", step.nonce, missing.taken_by)
            return
        self._missing.pop(step.id)
        if self._steps.displace(step, now=self._clock()):
            log.error("foreign_transaction nonce=%s step=%s", step.nonce, step.kind)

    def tend(self, lease: Lease, seen: Observation) -> Sequence[Step]:
        """Repair the lane, bump and send again what waits; return what is in flight."""
        self._head = seen.head.number
        in_flight = self._bump(lease, seen, self._repair(lease, seen))
        self._send_again(in_flight)
        return in_flight

    def _repair(self, lease: Lease, seen: Observation) -> list[Step]:
        """Fill unused nonces, and sign steps that a crash or a pause left unsigned."""
        fill, now = self._chain.fill(), self._clock()
        if repaired := self._lane.repair(lease, seen.nonce, fill, now=now):
            log.warning("lane_repaired nonces=%s", repaired)
        in_flight = self._steps.in_flight()
        unsigned = [step for step in in_flight if step.to_send is None]
        if seen.fees is None or not unsigned:
            return in_flight
        fees = seen.fees
        self._sign_and_send(
            lease, [(step, self._first_fees(step, fees)) for step in unsigned], seen
        )
        return self._steps.in_flight()

    def _first_fees(self, step: Step, suggested: Fees) -> Fees:
        """Return the suggested fees; for a step given up, fees that replace its earlier bytes."""
        if not step.attempts:
            return suggested
        return self._dearer(step.attempts[-1], suggested) or suggested

    def _dearer(self, last: Attempt, suggested: Fees) -> Fees | None:
        return bumped_fees(
            last.max_fee_per_gas, last.max_priority_fee_per_gas, suggested, self._max_fee_wei
        )

    def _bump(self, lease: Lease, seen: Observation, in_flight: Sequence[Step]) -> Sequence[Step]:
        """Replace underpriced pending transactions at the same nonce with higher fees."""
        if seen.fees is None:
            return in_flight
        waiting = [s for s in in_flight if s.attempts and s.nonce >= seen.nonce]
        self._not_bumped &= {step.id for step in waiting}
        dearer = []
        for step in waiting:
            last = step.to_send or step.attempts[-1]
            state = self._sent.get(last.hash)
            if state is None or not self._is_too_cheap(last, state, seen, first=step is waiting[0]):
                continue
            suggested, asked = seen.fees, state.refused.tip_wei if state.refused else None
            if asked is not None:
                suggested = with_tip(suggested, asked, self._max_fee_wei)
            fees = self._dearer(step.attempts[-1], suggested)
            if fees is not None and _cost_wei(step, fees) > seen.gas_balance_wei:
                # No node would take it, and it would be sent in place of bytes that one takes.
                fees = None
            if fees is not None:
                log.info("step_bumped step=%s nonce=%s", step.kind, step.nonce)
                self._not_bumped.discard(step.id)
                dearer.append((step, fees))
            elif step.id not in self._not_bumped:
                self._not_bumped.add(step.id)
                log.warning(
                    "step_not_bumped step=%s nonce=%s max_fee_per_gas=%s suggested=%s: a dearer"
                    " attempt would pay above 5 x the suggestion, COORDINATOR_MAX_FEE_GWEI or the"
                    " gas balance",
                    step.kind,
                    step.nonce,
                    last.max_fee_per_gas,
                    seen.fees.max_fee_per_gas,
                )
        self._sign_and_send(lease, dearer, seen)
        return self._steps.in_flight() if dearer else in_flight

    def _is_too_cheap(
        self, attempt: Attempt, state: _SentState, seen: Observation, *, first: bool
    ) -> bool:
        if state.refused is not None and state.refused.sent is Sent.TOO_CHEAP:
            return True
        if state.held_since_block is None:
            return False
        left_out = self._head - state.held_since_block >= _STUCK_BLOCKS
        return attempt.max_fee_per_gas < seen.base_fee_wei or (left_out and first)

    def refused(self, in_flight: Sequence[Step]) -> str | None:
        """Return the refusal that nodes repeat for a minute for the first step in the lane."""
        attempt = in_flight[0].to_send if in_flight else None
        state = self._sent.get(attempt.hash) if attempt is not None else None
        if state is None or state.refused is None or state.refused_since is None:
            return None
        if self._ticks() - state.refused_since < _REFUSED_SECONDS:
            return None
        step = in_flight[0]
        return f"no node takes step={step.kind} nonce={step.nonce}: {state.refused.said[:200]}"

    def _send_again(self, in_flight: Sequence[Step]) -> None:
        """Send the stored bytes of unmined steps again, to every endpoint."""
        now = self._ticks()
        due = [
            attempt
            for step in in_flight[:_RESENT_MAX]
            if (attempt := step.to_send) is not None
            if attempt.hash not in self._sent
            or now - self._sent[attempt.hash].sent_at >= _RESEND_SECONDS
        ]
        # The one that took them may never have passed them on.
        self._send(due, everywhere=True)

    def _sign_and_send(
        self, lease: Lease, steps: Sequence[tuple[Step, Fees]], seen: Observation
    ) -> None:
        if not steps:
            return
        self._chain.confirm(seen)
        fill = self._chain.fill()
        signed = [
            (
                step,
                self._chain.sign(fill if step.given_up else step.call, nonce=step.nonce, fees=fees),
            )
            for step, fees in steps
        ]
        self._reach(KillPoint.ATTEMPTS_SIGNED)
        kept = self._steps.store_attempts(
            lease,
            signed,
            composed=self._chain.composed,
            fill=fill,
            seen=self._believed([call for step, _ in signed for call in step.call.parts], seen),
            now=self._clock(),
        )
        self._reach(KillPoint.ATTEMPTS_STORED)
        if any(step.call.reference is not None for step, _ in signed):
            # No chain refuses a second withdrawal: that it was signed is kept elsewhere first.
            self._checkpoint.advance(now=self._clock())
        self._send(kept)
        self._reach(KillPoint.ATTEMPTS_SENT)

    def _send(self, attempts: Sequence[Attempt], *, everywhere: bool = False) -> None:
        if not attempts:
            return
        raws = [attempt.raw for attempt in attempts]
        answers = self._chain.send(raws, everywhere=everywhere)
        for attempt, answer in zip(attempts, answers, strict=True):
            state = self._sent.setdefault(attempt.hash, _SentState(self._ticks()))
            state.sent_at = self._ticks()
            self._note_refusal(state, answer)
            if answer.sent in (Sent.ACCEPTED, Sent.UNDERPRICED):
                # Held by a node, or kept out by another attempt of its nonce: both may be bumped.
                if state.held_since_block is None:
                    state.held_since_block = self._head
            elif answer.sent is Sent.INSUFFICIENT_FUNDS:
                log.error("gas_exhausted tx_hash=%s said=%s", attempt.hash, answer.said)
            elif answer.sent in (Sent.UNKNOWN, Sent.TOO_CHEAP):
                log.warning("send_%s tx_hash=%s said=%s", answer.sent, attempt.hash, answer.said)

    def _note_refusal(self, state: _SentState, answer: SendAnswer) -> None:
        if answer.sent in (Sent.ACCEPTED, Sent.NONCE_USED):
            state.refused = state.refused_since = None
            return
        state.refused = answer
        if state.refused_since is None:
            state.refused_since = self._ticks()


def _cost_wei(step: Step, fees: Fees) -> int:
    """Return the wei that a node requires in the account to accept the step at these fees."""
    return fees.signed_wei(GAS_LIMITS["fill"] if step.given_up else step.call.gas_limit)
