"""The signer's nonce lane: nonces that the chain used without us, and holes."""

from __future__ import annotations

import json
import logging

from sqlalchemy import select, update

from coordinator.domain.chain.steps import Call, StepStatus
from coordinator.ledger.chain.step_ends import fail_order
from coordinator.ledger.chain.steps import StepBook
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.pausing import begin_recovery
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

log = logging.getLogger(__name__)

_s = t.steps.c
_a = t.attempts.c


class LaneBook:
    """Compares the nonces that steps own with those that the chain has used."""

    def __init__(self, transactions: Transactions, steps: StepBook) -> None:
        self._transactions = transactions
        self._steps = steps

    def unexplained(self, used: int) -> int | None:
        """The nonce after the last known one, where ``used`` would change the lane; else None.

        That is when the chain has used more, or when a nonce from ``used`` on stands empty.
        """
        with self._transactions.read() as tx:
            known = self._own_nonces(tx, used)
            if known is None:
                return used if used else None
            return known if used > known or self._gaps(tx, used) else None

    def adopt(self, lease: Lease, used: int, fill: Call, *, now: int) -> int:
        """Note nonces below ``used`` that the chain has and no step owns: how many there were.

        The database is behind the chain (it was restored) or somebody else has the key: spending
        pauses, unknown escrows are adopted, and orders that may have been carried out fail.
        Nonces that were used before this database first looked are nobody's business.
        """
        with self._transactions.read() as tx:
            known = self._own_nonces(tx, used)
        if known is not None and used <= known:
            return 0
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            known = self._own_nonces(tx, used)
            if known is None:
                open_lane(tx, self._steps.signer, used, now=now)
                return 0
            for nonce in range(known, used):
                self._steps.insert_step(tx.connection, fill, nonce, StepStatus.DISPLACED, now)
            _fall_behind(tx, self._steps.signer, known, used, now)
            return used - known

    def miss(self, lease: Lease, told: int, used: int, *, now: int) -> None:
        """Note nonces below ``used`` that the log does not tell of.

        As ``adopt``, whatever the steps tell: whoever can write to the database makes them up.
        """
        if used <= told:
            return
        log.error("chain_ahead_of_audit_log told=%s used=%s", told, used)
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            _fall_behind(tx, self._steps.signer, told, used, now)

    def repair(self, lease: Lease, used: int, fill: Call, *, now: int) -> int:
        """Give every nonce from ``used`` on that stands empty something to send; how many.

        A nonce that no step owns gets a fill. So does one whose stranger's transaction is not on
        the chain any more: what had it ended, was told so, and may have been done again since.
        Steps that were made up beyond the end of the lane are dropped, and batches that were taken
        apart are mended.
        """
        with self._transactions.read() as tx:
            unproved = self._steps.nonces.any_unproved(tx, used)
            if not (unproved or self._gaps(tx, used)):
                return 0
        with self._transactions.write() as tx:
            connection = tx.connection
            fence(connection, lease)
            self._steps.nonces.mend_members(tx, now)
            self._steps.nonces.drop_unproved(tx, used, now)
            gaps = self._gaps(tx, used)
            for nonce, step_id in gaps:
                if step_id is None:
                    self._steps.insert_step(connection, fill, nonce, StepStatus.ALLOCATED, now)
                    continue
                signed = select(_a.hash).where(_a.step_id == step_id)
                if connection.execute(signed).first() is not None:
                    self._steps.give_up(connection, step_id)
                else:
                    self._steps.make_fill(connection, step_id, nonce, fill)
                    connection.execute(
                        update(t.steps)
                        .where(_s.id == step_id)
                        .values(status=StepStatus.ALLOCATED.value)
                    )
            if gaps:
                nonces = [nonce for nonce, _ in gaps]
                tx.record(now, "lane_repaired", "treasury", nonces=nonces)
            return len(gaps)

    def _own_nonces(self, tx: Tx, used: int) -> int | None:
        """The nonce after the last that this database knows of; None before it ever looked."""
        highest = self._steps.nonces.highest(tx, used)
        return _lane_opened_at(tx, self._steps.signer) if highest is None else int(highest) + 1

    def _gaps(self, tx: Tx, used: int) -> list[tuple[int, int | None]]:
        """(nonce, its displaced step or None) of the lane from ``used`` on."""
        query = select(_s.nonce, _s.id, _s.status).where(*self._steps.own, _s.nonce >= used)
        owned = {row.nonce: row for row in tx.connection.execute(query)}
        gaps: list[tuple[int, int | None]] = []
        end = self._steps.nonces.highest(tx, used)
        if end is None or end < used:
            return gaps
        first = (
            max(used, _lane_opened_at(tx, self._steps.signer) or 0) if used not in owned else used
        )
        for nonce in range(first, end + 1):
            row = owned.get(nonce)
            if row is None or row.status == StepStatus.DISPLACED.value:
                gaps.append((nonce, row.id if row is not None else None))
        return gaps


def _fall_behind(tx: Tx, signer: str, first: int, used: int, now: int) -> None:
    why = (
        f"{used - first} transactions of the treasury's key are not in this database:"
        " it was restored, or somebody else has the key; check it, then unpause"
    )
    begin_recovery(tx, why, now=now)
    _fail_orders(tx, now)
    tx.record(now, "nonces_adopted", "treasury", signer=signer, first=first, last=used - 1)


def _fail_orders(tx: Tx, now: int) -> None:
    """End orders that own no step: nobody knows whether the chain has carried them out."""
    stepped = select(_s.reference).where(_s.reference.is_not(None))
    o = t.orders.c
    waiting = select(o.id).where(o.status == "approved", o.id.not_in(stepped))
    why = "the database is behind the chain: order it again if it was not carried out"
    for order_id in tx.connection.execute(waiting).scalars().all():
        fail_order(tx, order_id, why, now)


def open_lane(tx: Tx, signer: str, first: int, *, now: int) -> None:
    """Note that a signer's lane begins at a nonce: what was used before is not ours to miss."""
    tx.record(now, "lane_opened", _lane_of(signer), first=first)


def _lane_of(signer: str) -> str:
    return f"lane:{signer}"


def _lane_opened_at(tx: Tx, signer: str) -> int | None:
    query = select(t.audit.c.body).where(
        t.audit.c.subject == _lane_of(signer), t.audit.c.event == "lane_opened"
    )
    tx.flush()
    body = tx.connection.execute(query.order_by(t.audit.c.seq.desc()).limit(1)).scalar()
    return int(json.loads(body)["first"]) if body is not None else None
