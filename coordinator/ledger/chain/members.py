"""Members of batches put right: whoever can write to the database may take them apart."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select, update

from coordinator.domain.chain.steps import IN_FLIGHT, StepKind, StepStatus
from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.proofs.member_rows import apart, incomplete
from coordinator.ledger.proofs.step_digest import values_of
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import report_tampering
from coordinator.ledger.tx.transaction import Tx

_s = t.steps.c
_IN_FLIGHT: Final = [status.value for status in IN_FLIGHT]
_KEPT: Final = (*_IN_FLIGHT, StepStatus.MINED.value)


def any_amiss(connection: Connection, *lane: ColumnElement[bool]) -> bool:
    """Whether members in flight of a lane were taken apart."""
    in_flight = (*lane, _s.status.in_(_IN_FLIGHT))
    return bool(apart(connection, *in_flight) or incomplete(connection, *in_flight))


def mend(tx: Tx, *lane: ColumnElement[bool], codes: RowCodes, now: int) -> None:
    """Put members in flight back where they were allocated, delete what never was, and pause.

    Else a purchase would wait for ever for the end of a call that nothing ends.
    """
    in_flight = (*lane, _s.status.in_(_IN_FLIGHT))
    found = set(incomplete(tx.connection, *in_flight))
    for row in apart(tx.connection, *in_flight):
        found.add(row.nonce)
        of_nonce = (*lane, _s.nonce == row.nonce, _s.position == 0)
        query = select(_s.id, _s.status).where(*of_nonce, _s.kind == StepKind.BATCH.value)
        batch = tx.connection.execute(query).first()
        if batch is None or not codes.proves(tx.connection, row.mac, "steps", values_of(row)):
            tx.connection.execute(delete(t.steps).where(_s.id == row.id))
            continue
        status = batch.status if batch.status in _KEPT else StepStatus.DISPLACED.value
        placed = update(t.steps).where(_s.id == row.id)
        tx.connection.execute(placed.values(batch_id=batch.id, status=status))
    for nonce in sorted(found):
        what = f"the batch at nonce {nonce} has not the calls that were allocated"
        report_tampering(tx, "treasury", what, now=now)
