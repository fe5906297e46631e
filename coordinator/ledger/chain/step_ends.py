"""Ends of steps, by the receipts that prove them, and of the orders that they carry out."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, or_, select, update

from coordinator.domain.chain.steps import (
    IN_FLIGHT,
    MISSED,
    UNEXPLAINED,
    Call,
    Receipt,
    Step,
    StepKind,
    StepStatus,
)
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared, batched
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx

_s = t.steps.c
_a = t.attempts.c
_TREASURY: Final = "treasury"
_AT_ONCE: Final = 500
_IN_FLIGHT: Final = [status.value for status in IN_FLIGHT]
_PROOF: Final = (
    *("block_number", "block_hash", "succeeded"),
    *("gas_used", "effective_gas_price", "l1_fee_wei"),
)
# A parameter may not have the name of a column that is set.
_PROVE_ATTEMPT: Final = Prepared(
    update(t.attempts)
    .where(_a.hash == bindparam("of"))
    .values({name: bindparam(f"to_{name}") for name in _PROOF})
)
_ENDED: Final[dict[str, Any]] = {
    "status": bindparam("to_status"),
    "revert_reason": bindparam("why"),
}
_END_STEP: Final = Prepared(update(t.steps).where(_s.id == bindparam("of")).values(_ENDED))
_END_MEMBERS: Final = Prepared(update(t.steps).where(_s.batch_id == bindparam("of")).values(_ENDED))


def store_ends(tx: Tx, receipts: Sequence[tuple[Step, Receipt, str | None]], now: int) -> None:
    """Keep what the chain proved of steps; the text is a revert's reason."""
    connection = tx.connection
    open_ones = _in_flight(connection, [step.id for step, _, _ in receipts])
    proofs = [
        {"of": r.tx_hash, **{f"to_{k}": v for k, v in _proof(r).items()}} for _, r, _ in receipts
    ]
    _PROVE_ATTEMPT.each(connection, proofs)
    # Another executor may have stored some.
    ends = [_end_of(*one) for one in receipts if one[0].id in open_ones]
    _END_STEP.each(
        connection,
        [{"of": e.step.id, "to_status": e.status.value, "why": e.why} for e in ends],
    )
    _END_MEMBERS.each(
        connection,
        [
            {"of": e.step.id, "to_status": e.of_members.value, "why": e.why}
            for e in ends
            if e.step.call.members
        ],
    )
    for end in ends:
        end_order(tx, end.step, end.status is StepStatus.MINED, end.why, now)
        proof = {
            "nonce": end.step.nonce,
            "tx_hash": end.receipt.tx_hash,
            "block": end.receipt.block_number,
            "why": end.why,
        }
        if end.status is StepStatus.DISPLACED:
            tx.record(now, f"{StepKind.FILL}_{StepStatus.MINED}", _TREASURY, **proof)
            continue
        for call in (end.step.call, *end.step.call.members):
            tx.record(now, f"{call.kind}_{end.status}", subject_of(call), **proof)


def fail_order(tx: Tx, order_id: str, why: str | None, now: int) -> None:
    """Note that an approved order has failed."""
    tx.connection.execute(
        update(t.orders)
        .where(t.orders.c.id == order_id, t.orders.c.status == "approved")
        .values(status="failed", message=why)
    )
    tx.record(now, "order_failed", order_id, why=why)


def end_order(tx: Tx, step: Step, done: bool, why: str | None, now: int) -> None:
    order_id, o = step.call.reference, t.orders.c
    if order_id is None:
        return
    before = tx.connection.execute(select(o.status).where(o.id == order_id)).scalar()
    if before != "approved" and not (done and before == "failed"):
        return
    if not done:
        fail_order(tx, order_id, why, now)
        return
    tx.connection.execute(
        update(t.orders).where(o.id == order_id).values(status="done", message=why)
    )
    tx.record(now, "order_done", order_id, why=why)
    if before == "failed":
        pause = (
            f"{step.kind} {order_id} was told as failed and was mined after all: if it was"
            " ordered again it was carried out twice; check it, then unpause"
        )
        pause_everything(tx, pause, by="executor", now=now)


def has_events(connection: Connection, step: Step) -> bool:
    hashes = [attempt.hash for attempt in step.attempts]
    return any(
        connection.execute(
            select(table.c.tx_hash).where(table.c.tx_hash.in_(hashes)).limit(1)
        ).first()
        for table in (t.journal, t.escrow_events)
    )


class _End(NamedTuple):
    """The end of a step: mined, reverted, or displaced by its own fill."""

    step: Step
    receipt: Receipt
    status: StepStatus
    why: str | None

    @property
    def of_members(self) -> StepStatus:
        """The end of a batch's members: what fails of several is made again.

        So is one whose escrow got another id than the one that it was predicted with, and one of
        which nobody tells why it failed.
        """
        purchases = {call.purchase_id for call in self.step.call.members}
        why = self.why or UNEXPLAINED
        again = len(purchases) > 1 or why.startswith(MISSED) or why == UNEXPLAINED
        if self.status is StepStatus.REVERTED and again:
            return StepStatus.DISPLACED
        return self.status


def _end_of(step: Step, receipt: Receipt, revert_reason: str | None) -> _End:
    status = StepStatus.MINED if receipt.succeeded else StepStatus.REVERTED
    if any(a.fills and a.hash == receipt.tx_hash for a in step.attempts):
        status = StepStatus.DISPLACED
    return _End(step, receipt, status, revert_reason)


def _in_flight(connection: Connection, ids: Sequence[int]) -> Set[int]:
    """Return those of the steps that have not ended."""
    found: set[int] = set()
    for part in batched(ids, _AT_ONCE):
        query = select(_s.id).where(_s.id.in_(part), _s.status.in_(_IN_FLIGHT))
        found |= set(connection.execute(query).scalars())
    return found


def _proof(receipt: Receipt) -> dict[str, Any]:
    """Return what a receipt tells of its attempt, by column."""
    return {
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
        "succeeded": int(receipt.succeeded),
        "gas_used": receipt.gas_used,
        "effective_gas_price": receipt.effective_gas_price,
        "l1_fee_wei": receipt.l1_fee_wei,
    }


def subject_of(call: Call) -> str:
    return call.purchase_id or call.reference or _TREASURY


def with_members(step_id: int) -> ColumnElement[bool]:
    """The rows of a step and, where it is a batch, of its members."""
    return or_(_s.id == step_id, _s.batch_id == step_id)
