"""Rows to steps, with their attempts and receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from coordinator.domain.chain.steps import Attempt, Call, Receipt, Step, StepKind, StepStatus
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import batched

_s = t.steps.c
_a = t.attempts.c
_AT_ONCE: Final = 500
_KEPT_MAX: Final = 10_000


class StepRows:
    """Loads steps; one whose rows are what they were is not made anew.

    Several thousand are read in every round, and few of them have changed.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Sequence[Any], Step]] = {}

    def load(self, connection: Connection, *where: ColumnElement[bool]) -> list[Step]:
        """Load the steps that fit, in nonce order, each with its attempts, the dearest last."""
        rows = connection.execute(select(t.steps).where(*where).order_by(_s.nonce)).all()
        attempts: dict[int, list[Any]] = {}
        for part in batched((row.id for row in rows), _AT_ONCE):
            # Each attempt pays more than the one before it, whatever the clock did in between.
            query = select(t.attempts).where(_a.step_id.in_(part)).order_by(_a.max_fee_per_gas)
            for attempt in connection.execute(query):
                attempts.setdefault(attempt.step_id, []).append(attempt)
        if len(self._made) > _KEPT_MAX:
            self._made.clear()
        return [self._step(row, attempts.get(row.id, [])) for row in rows]

    def _step(self, row: Any, attempts: Sequence[Any]) -> Step:
        known = self._made.get(row.id)
        if known is None or known[0] != (row, *attempts):
            known = self._made[row.id] = ((row, *attempts), _step(row, attempts))
        return known[1]


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
        signer=row.signer,
    )
