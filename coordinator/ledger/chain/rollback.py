"""Roll the books back to a fork, in one transaction with all that the lost blocks proved."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from coordinator.domain.chain.events import Block
from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.purchase.lifecycle import FINAL, Status
from coordinator.ledger.chain.escrow_fold import status_by_escrows
from coordinator.ledger.chain.following import refold
from coordinator.ledger.chain.safe_watch import put_aside
from coordinator.ledger.chain.step_ends import with_members
from coordinator.ledger.spend.holds import reopen_holds
from coordinator.ledger.spend.restored_purchases import was_put_back
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c
_ev = t.escrow_events.c
_a = t.attempts.c
_s = t.steps.c


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Counts of what a rollback took out of the books."""

    entries: int
    events: int
    steps: int
    purchases: int


def roll_back(tx: Tx, to: Block, now: int) -> RolledBack:
    """Forget every proof in blocks above ``to``; the cursor is the caller's.

    Steps mined there are in flight again under the same bytes, and purchases stand where the
    remaining events and their own decisions put them. An order that had failed stays so, and its
    step is given up: it may have been ordered again. A hold that had ended is held again: then
    the chain contradicts what was final, and spending pauses.
    """
    connection = tx.connection
    # What agreed may have agreed with a block that is lost.
    connection.execute(delete(t.comparisons))
    entries = connection.execute(delete(t.journal).where(t.journal.c.block_number > to.number))
    purchases = _purchases_above(connection, to.number)
    escrow_ids = set(
        connection.execute(select(_ev.escrow_id).where(_ev.block_number > to.number)).scalars()
    )
    events = connection.execute(delete(t.escrow_events).where(_ev.block_number > to.number))
    put_aside(connection, to.number)
    refold(tx, sorted(escrow_ids))
    steps = _take_back_evidence(tx, to.number, now)
    moved = [_set_back(tx, row, now) for row in purchases]
    done = RolledBack(entries.rowcount, events.rowcount, steps, sum(moved))
    rolled_back = {"to": to.number, "to_hash": to.hash, "entries": done.entries}
    tx.record(now, "journal_rolled_back", "journal", **rolled_back)
    return done


def _purchases_above(connection: Connection, number: int) -> list[Any]:
    """Purchases that an escrow's event above ``number`` moved, or whose end stands there."""
    moved = (
        select(_e.purchase_id)
        .join(t.escrow_events, _ev.escrow_id == _e.escrow_id)
        .where(_ev.block_number > number, _e.purchase_id.is_not(None))
    )
    # A link that vanishes gives its escrow back to whoever created it.
    keyed = (
        select(_p.id)
        .join(t.escrow_events, _ev.escrow_key == _p.escrow_key)
        .where(_ev.block_number > number)
    )
    ids = {
        *connection.execute(moved).scalars(),
        *connection.execute(keyed).scalars(),
        *connection.execute(select(_p.id).where(_p.ended_at_block > number)).scalars(),
    }
    query = select(t.purchases).where(_p.id.in_(ids), _p.status != Status.DENIED.value)
    return list(connection.execute(query.order_by(_p.seq)))


def _take_back_evidence(tx: Tx, number: int, now: int) -> int:
    connection = tx.connection
    lost = list(
        connection.execute(
            select(_a.step_id, _a.hash, _a.fills, _s.kind, _s.purchase_id, _s.reference)
            .add_columns(_a.succeeded, _s.given_up)
            .join(t.steps, _s.id == _a.step_id)
            .where(_a.block_number > number)
            .order_by(_s.nonce)
        )
    )
    for row in lost:
        connection.execute(
            update(t.attempts)
            .where(_a.hash == row.hash)
            .values(
                block_number=None,
                block_hash=None,
                succeeded=None,
                gas_used=None,
                effective_gas_price=None,
                l1_fee_wei=None,
            )
        )
        failed = row.reference is not None and not (row.succeeded and not row.fills)
        connection.execute(
            update(t.steps)
            .where(with_members(row.step_id))
            .values(
                status=StepStatus.SIGNED.value,
                revert_reason=None,
                given_up=int(failed or bool(row.given_up)),
            )
        )
        if row.fills or failed:
            tx.record(now, "fill_taken_back", "treasury", tx_hash=row.hash)
            continue
        if row.reference is not None:
            connection.execute(
                update(t.orders)
                .where(t.orders.c.id == row.reference)
                .values(status="approved", message=None)
            )
        members = select(t.steps).where(_s.batch_id == row.step_id).order_by(_s.position)
        for one in (row, *connection.execute(members)):
            subject = one.purchase_id or one.reference or "treasury"
            tx.record(now, f"{one.kind}_taken_back", subject, tx_hash=row.hash)
    _reopen_displaced(connection, number)
    return len(lost)


def _reopen_displaced(connection: Connection, number: int) -> None:
    """Look again at steps whose stranger's transaction may have been lost above ``number``.

    Their own bytes may be mined now, and must be seen then; they are not sent again.
    """
    lane = (_s.chain_id, _s.signer)
    on_chain = select(*lane, func.max(_s.nonce)).join(t.attempts, _a.step_id == _s.id)
    on_chain = on_chain.where(_a.block_number <= number).group_by(*lane)
    highest = {(chain, signer): nonce for chain, signer, nonce in connection.execute(on_chain)}
    displaced = (
        select(_s.id, _s.nonce, *lane)
        .join(t.attempts, _a.step_id == _s.id)
        .where(_s.status == StepStatus.DISPLACED.value, _s.kind != StepKind.FILL.value)
        .distinct()
    )
    for row in connection.execute(displaced).all():
        if row.nonce > highest.get((row.chain_id, row.signer), -1):
            connection.execute(
                update(t.steps)
                .where(with_members(row.id))
                .values(status=StepStatus.SIGNED.value, given_up=1)
            )


def _set_back(tx: Tx, purchase: Any, now: int) -> bool:
    before = Status(purchase.status)
    after, ended_at_block = status_by_escrows(tx.connection, purchase)
    if after is None:
        after, ended_at_block = _without_escrow(tx, purchase)
    if after is before and ended_at_block == purchase.ended_at_block:
        return False
    values: dict[str, Any] = {"status": after.value, "updated_at": now, "stranded": None}
    values["ended_at_block"] = ended_at_block if after in FINAL else None
    if after not in FINAL:
        values.update(reason_code=None, reason_message=None)
    if reopen_holds(tx, purchase.id):
        why = f"a final end of {purchase.id} is not on the chain any more: check it, then unpause"
        pause_everything(tx, why, by="executor", now=now)
        log.error("contradiction purchase_id=%s before=%s after=%s", purchase.id, before, after)
        tx.record(now, "contradiction", purchase.id, before=before, after=after)
    tx.connection.execute(update(t.purchases).where(_p.id == purchase.id).values(values))
    said = {"before": before.value, "why": "reorganisation"}
    tx.record(now, f"purchase_{after}", purchase.id, **said)
    return True


def _without_escrow(tx: Tx, purchase: Any) -> tuple[Status, int | None]:
    """Return the status of a purchase when no escrow of it is left on the chain.

    What is known from the chain alone has nothing that could create it again, and what comes from
    a lost database must not be: it has failed, until its events come back. Every other one was
    approved before its escrow was created.
    """
    if purchase.agent is not None and not was_put_back(tx, purchase.id):
        return Status.APPROVED, None
    highest = select(func.max(t.cursors.c.number)).where(t.cursors.c.name == "books")
    return Status.FAILED, tx.connection.execute(highest).scalar()
