"""Proof of the nonces that steps own: every nonce below the highest costs gas to fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, delete, func, select

from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.chain.members import any_amiss, mend
from coordinator.ledger.proofs.step_digest import STEP
from coordinator.ledger.spend.signed import SIGNED
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import report_tampering
from coordinator.ledger.tx.transaction import Tx

_s, _a = t.steps.c, t.attempts.c
# Far more than are ever in flight, replaced transactions included.
_NEWEST: Final = 5_000


@dataclass(frozen=True, slots=True)
class OwnedNonces:
    """The end of one signer's lane, proved: a row alone does not extend it.

    From the chain's count on a step owns its nonce by the code over its call, or where the audit
    log tells that its bytes were signed.
    """

    codes: RowCodes
    lane: Sequence[ColumnElement[bool]]

    @property
    def own(self) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of what is signed: a batch, and none of its members."""
        return (*self.lane, _s.position == 0)

    def highest(self, tx: Tx, used: int) -> int | None:
        """Return the highest nonce that a step owns; None without any.

        ``used`` is the chain's count: what lies below it needs no proof.
        """
        ahead = select(t.steps).where(*self.own, _s.nonce >= used).order_by(_s.nonce.desc())
        for row in tx.connection.execute(ahead):
            if self._is_allocated(tx, row) or self.was_signed(tx, row.id, row.nonce):
                return int(row.nonce)
        behind = select(func.max(_s.nonce)).where(*self.own, _s.nonce < used)
        return tx.connection.execute(behind).scalar()

    def any_unproved(self, tx: Tx, used: int) -> bool:
        """Whether a step claims a nonce beyond the end, or the members of one do not fit."""
        return bool(self._beyond(tx, used)) or any_amiss(tx.connection, *self.lane)

    def drop_unproved(self, tx: Tx, used: int, now: int) -> None:
        """Delete the steps that claim a nonce beyond the end, and pause spending."""
        rows = self._beyond(tx, used)
        if not rows:
            return
        for row in rows:
            self.drop(tx, row.id)
        nonces = sorted(row.nonce for row in rows)
        tx.record(now, "steps_dropped", "treasury", first=nonces[0], count=len(nonces))
        what = f"the call at nonce {nonces[0]} is not the one that was allocated"
        report_tampering(tx, "treasury", what, now=now)

    def mend_members(self, tx: Tx, now: int) -> None:
        """Put right the members of batches that were taken apart, and pause spending."""
        mend(tx, *self.lane, codes=self.codes, now=now)

    def drop(self, tx: Tx, step_id: int) -> None:
        """Delete a step that nothing proves, with the bytes that it claims."""
        tx.connection.execute(delete(t.attempts).where(_a.step_id == step_id))
        tx.connection.execute(delete(t.steps).where(_s.batch_id == step_id))
        tx.connection.execute(delete(t.steps).where(_s.id == step_id))

    def was_signed(self, tx: Tx, step_id: int, nonce: int, *subjects: str) -> bool:
        """Whether the log tells, of the subjects or of any, that bytes of the step were signed."""
        query = select(_a.hash).where(_a.step_id == step_id)
        hashes = set(tx.connection.execute(query).scalars())
        if not hashes:
            return False
        rows = tx.proven(*subjects, events=SIGNED, newest=_NEWEST, skip=True)
        return any(r.body["nonce"] == nonce and r.body["tx_hash"] in hashes for r in rows)

    def _beyond(self, tx: Tx, used: int) -> list[Row[Any]]:
        end = self.highest(tx, used)
        first = used if end is None else max(used, end + 1)
        query = select(t.steps).where(*self.lane, _s.nonce >= first).order_by(_s.position.desc())
        return list(tx.connection.execute(query).all())

    def _is_allocated(self, tx: Tx, row: Row[Any]) -> bool:
        values = [getattr(row, name) for name in STEP]
        return self.codes.proves(tx.connection, row.mac, "steps", values)
