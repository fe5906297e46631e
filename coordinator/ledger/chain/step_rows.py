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
        """Load the steps that fit, in nonce order, each with its attempts, the dearest last.

        A batch has its members, and a member the attempts of its batch.
        """
        order = (_s.nonce, _s.position)
        rows = connection.execute(select(t.steps).where(*where).order_by(*order)).all()
        members: dict[int, list[Any]] = {}
        batches = [row.id for row in rows if row.kind == StepKind.BATCH.value]
        for part in batched(batches, _AT_ONCE):
            found = select(t.steps).where(_s.batch_id.in_(part)).order_by(*order)
            for member in connection.execute(found):
                members.setdefault(member.batch_id, []).append(member)
        attempts: dict[int, list[Any]] = {}
        signed = dict.fromkeys(_signed_as(row) for row in rows)
        for part in batched(signed, _AT_ONCE):
            # Each attempt pays more than the one before it, whatever the clock did in between.
            query = select(t.attempts).where(_a.step_id.in_(part)).order_by(_a.max_fee_per_gas)
            for attempt in connection.execute(query):
                attempts.setdefault(attempt.step_id, []).append(attempt)
        if len(self._made) > _KEPT_MAX:
            self._made.clear()
        return [
            self._step(row, attempts.get(_signed_as(row), []), members.get(row.id, []))
            for row in rows
        ]

    def _step(self, row: Any, attempts: Sequence[Any], members: Sequence[Any]) -> Step:
        known, state = self._made.get(row.id), (row, *attempts, *members)
        if known is None or known[0] != state:
            known = self._made[row.id] = (state, _step(row, attempts, members))
        return known[1]


def _signed_as(row: Any) -> int:
    """Return the id of the step whose attempts are this one's."""
    return int(row.id if row.batch_id is None else row.batch_id)


def _call(row: Any, members: Sequence[Any] = ()) -> Call:
    return Call(
        kind=StepKind(row.kind),
        to=row.recipient,
        data=row.data,
        gas_limit=row.gas_limit,
        purchase_id=row.purchase_id,
        escrow_id=row.escrow_id,
        usdc=Usdc.from_base_units(row.usdc) if row.usdc is not None else None,
        reference=row.reference,
        members=tuple(map(_call, members)),
    )


def _step(row: Any, attempts: Sequence[Any], members: Sequence[Any]) -> Step:
    mined = next((a for a in attempts if a.block_number is not None), None)
    return Step(
        id=row.id,
        nonce=row.nonce,
        call=_call(row, members),
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
