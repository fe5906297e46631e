"""Rows to steps, with their attempts and receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from coordinator.domain.chain.steps import Attempt, Call, Receipt, Step, StepKind, StepStatus
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t

_s = t.steps.c
_a = t.attempts.c


def load_steps(connection: Connection, *where: ColumnElement[bool]) -> list[Step]:
    """Load the steps that fit, in nonce order, each with its attempts, the dearest last."""
    rows = connection.execute(select(t.steps).where(*where).order_by(_s.nonce)).all()
    attempts: dict[int, list[Any]] = {}
    query = select(t.attempts).where(_a.step_id.in_([row.id for row in rows]))
    # Each attempt pays more than the one before it, whatever the clock did in between.
    for attempt in connection.execute(query.order_by(_a.max_fee_per_gas)):
        attempts.setdefault(attempt.step_id, []).append(attempt)
    return [_step(row, attempts.get(row.id, [])) for row in rows]


def _step(row: Any, attempts: Sequence[Any]) -> Step:
    mined = next((a for a in attempts if a.block_number is not None), None)
    return Step(
        id=row.id,
        nonce=row.nonce,
        call=Call(
            kind=StepKind(row.kind),
            to=row.recipient,
            data=row.data,
            gas_limit=row.gas_limit,
            purchase_id=row.purchase_id,
            escrow_id=row.escrow_id,
            usdc=Usdc.from_base_units(row.usdc) if row.usdc is not None else None,
            reference=row.reference,
        ),
        status=StepStatus(row.status),
        attempts=tuple(
            Attempt(
                hash=a.hash,
                raw=a.raw,
                max_fee_per_gas=a.max_fee_per_gas,
                max_priority_fee_per_gas=a.max_priority_fee_per_gas,
                fills=bool(a.fills),
            )
            for a in attempts
        ),
        receipt=Receipt(
            tx_hash=mined.hash,
            block_number=mined.block_number,
            block_hash=mined.block_hash,
            succeeded=bool(mined.succeeded),
            gas_used=mined.gas_used,
            effective_gas_price=mined.effective_gas_price,
            l1_fee_wei=mined.l1_fee_wei,
        )
        if mined
        else None,
        revert_reason=row.revert_reason,
        created_at=row.created_at,
        given_up=bool(row.given_up),
    )
