"""Fold escrows from their stored events, and let purchases follow their escrows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EMPTY, ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.purchase.lifecycle import FINAL, MOVES, STATUS_OF, Status
from coordinator.domain.reasons import ReasonCode
from coordinator.ledger.proofs.audit_fold import LoggedState
from coordinator.ledger.spend.adoption import attribute_to_organisation
from coordinator.ledger.spend.holds import reopen_holds
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.pausing import begin_recovery, pause_everything
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c
_ev = t.escrow_events.c
FOLLOWED: Final = frozenset(
    {EventKind.ESCROW_CREATED, EventKind.ESCROW_FUNDED, EventKind.ESCROW_MOVED}
)


def apply_event(tx: Tx, event: ChainEvent, now: int) -> str | None:
    """Bring escrows and their purchases to what ``event`` says; strangers' escrows are ignored.

    Returns what to log once it is committed, None when no purchase moved.
    USDC that left under a key that no purchase has (after a lost database) gets a purchase that
    counts against the organisation, and spending pauses. So it does for a move that the table of
    moves does not have; it is taken all the same.
    """
    if event.kind not in FOLLOWED or event.escrow_id is None:
        return None
    created = event.kind is EventKind.ESCROW_CREATED
    if not created and _escrow(tx.connection, event.escrow_id) is None:
        return None
    _store(tx.connection, event)
    escrow = fold_escrow(tx, event.escrow_id)
    if escrow.purchase_id is None:
        if event.kind is EventKind.ESCROW_FUNDED and not _is_key_of_a_purchase(tx, event):
            why = "USDC was paid for purchases unknown to this database: check it, then unpause"
            begin_recovery(tx, why, now=now)
            attribute_to_organisation(tx, event.escrow_id, now=now)
        return None
    return _follow(tx, escrow, event, now)


def fold_escrow(tx: Tx, escrow_id: str) -> Any:
    """Make the escrow's row what its stored events say; None, and no row, when none is left."""
    connection = tx.connection
    query = select(t.escrow_events).where(_ev.escrow_id == escrow_id)
    events = connection.execute(query.order_by(_ev.block_number, _ev.log_index)).all()
    if not events:
        connection.execute(delete(t.escrows).where(_e.escrow_id == escrow_id))
        return None
    values = _folded(events)
    values["purchase_id"] = _owner(tx, events[0], values)
    known = _escrow(connection, escrow_id)
    if known is None:
        connection.execute(insert(t.escrows).values(escrow_id=escrow_id, **values))
    else:
        connection.execute(update(t.escrows).where(_e.escrow_id == escrow_id).values(**values))
    return _escrow(connection, escrow_id)


def status_by_escrows(connection: Connection, purchase: Any) -> tuple[Status | None, int | None]:
    """The status that the purchase's escrows give it, and the block of its end.

    An escrow linked under its key decides; before that it is created while one is empty, and
    cancelled once none is. (None, None) without any.
    """
    query = select(_e.state, _e.escrow_key, _e.last_block).where(_e.purchase_id == purchase.id)
    escrows = connection.execute(query).all()
    if not escrows:
        return None, None
    linked = next((e for e in escrows if e.escrow_key == purchase.escrow_key), None)
    if linked is not None:
        return STATUS_OF[EscrowState(linked.state)], linked.last_block
    if any(EscrowState(escrow.state) in EMPTY for escrow in escrows):
        return Status.CREATED, None
    return Status.CANCELLED, max(escrow.last_block for escrow in escrows)


def _escrow(connection: Connection, escrow_id: str) -> Any:
    return connection.execute(select(t.escrows).where(_e.escrow_id == escrow_id)).one_or_none()


def _is_key_of_a_purchase(tx: Tx, event: ChainEvent) -> bool:
    query = select(_p.id).where(_p.escrow_key == event.escrow_key, _p.status != Status.DENIED.value)
    return tx.connection.execute(query).first() is not None


def _store(connection: Connection, event: ChainEvent) -> None:
    connection.execute(
        insert(t.escrow_events).values(
            block_hash=event.block_hash,
            log_index=event.log_index,
            block_number=event.block_number,
            tx_hash=event.tx_hash,
            at=event.at,
            kind=event.kind.value,
            escrow_id=event.escrow_id,
            escrow_key=event.escrow_key,
            provider=event.provider,
            amount=event.amount.base_units if event.amount is not None else None,
            service_hash=event.service_hash,
            deadline=event.deadline,
            state=event.state.value if event.state is not None else None,
            window_ends=event.window_ends,
        )
    )


def _folded(events: Sequence[Any]) -> dict[str, Any]:
    first = events[0]
    values: dict[str, Any] = {
        "escrow_key": None,
        "provider": first.provider,
        "amount": first.amount,
        "service_hash": first.service_hash,
        "state": EscrowState.CREATED.value,
        "deadline": first.deadline,
        "window_ends": None,
        "created_at": first.at,
        "last_block": events[-1].block_number,
    }
    for event in events[1:]:
        if event.kind == EventKind.ESCROW_FUNDED:
            values |= {"escrow_key": event.escrow_key, "amount": event.amount}
            values["state"] = EscrowState.FUNDED.value
        else:
            values["state"] = event.state
            if event.window_ends is not None:
                values["window_ends"] = event.window_ends
    return values


def _owner(tx: Tx, created: Any, escrow: dict[str, Any]) -> str | None:
    """The purchase under whose key it is linked; before that the one whose step created it.

    One whose row was changed since owns what was decided: the log tells it.
    """
    if escrow["escrow_key"] is None:
        creator = (
            select(t.steps.c.purchase_id)
            .join(t.attempts, t.attempts.c.step_id == t.steps.c.id)
            .where(t.attempts.c.hash == created.tx_hash, t.steps.c.kind == StepKind.CREATE.value)
        )
        return tx.connection.execute(creator).scalar()
    owner = tx.connection.execute(
        select(_p.id, _p.agent, _p.provider, _p.amount, _p.service).where(
            _p.escrow_key == escrow["escrow_key"], _p.status != Status.DENIED.value
        )
    ).one_or_none()
    if owner is None:
        return None
    # One that is known from the chain alone has no service name that could be compared.
    service = escrow["service_hash"] if owner.agent is None else service_hash(owner.service)
    asked = (owner.provider.lower(), owner.amount, service)
    paid = (escrow["provider"].lower(), escrow["amount"], escrow["service_hash"])
    if asked == paid or _decided_terms(tx, owner.id) == paid:
        return str(owner.id)
    # Ours by key but not by terms: nobody asked for this, so no purchase owns it.
    return None


def _decided_terms(tx: Tx, purchase_id: str) -> tuple[str, int, str] | None:
    past = LoggedState()
    for row in tx.proven(purchase_id, skip=True):
        past.take(row)
    told = past.purchases.get(purchase_id)
    if told is None:
        return None
    return told.provider.lower(), told.amount, service_hash(told.words.get("service"))


def _follow(tx: Tx, escrow: Any, event: ChainEvent, now: int) -> str | None:
    connection, owner_id = tx.connection, escrow.purchase_id
    purchase = connection.execute(select(t.purchases).where(_p.id == owner_id)).one()
    before = Status(purchase.status)
    after, ended_at_block = status_by_escrows(connection, purchase)
    linked = escrow.escrow_key == purchase.escrow_key
    if after is None or before is after or (before in FINAL and not linked):
        return None
    if after not in MOVES[before] and not _end_was_taken_back(connection, purchase):
        _overrule(tx, purchase, after, now)
    values: dict[str, Any] = {"status": after.value, "updated_at": now, "stranded": None}
    values["ended_at_block"] = ended_at_block if after in FINAL else None
    if after is not Status.CANCELLED:
        values.update(reason_code=None, reason_message=None)
    elif purchase.reason_code is None:
        why = _why_cancelled(before)
        values.update(reason_code=ReasonCode.CANCELLED.value, reason_message=why)
    connection.execute(update(t.purchases).where(_p.id == owner_id).values(values))
    tx.record(
        now,
        f"purchase_{after}",
        owner_id,
        before=before.value,
        escrow_id=escrow.escrow_id,
        tx_hash=event.tx_hash,
        block=event.block_number,
    )
    return f"purchase_{after} purchase_id={owner_id} tx_hash={event.tx_hash}"


def _end_was_taken_back(connection: Connection, purchase: Any) -> bool:
    """Whether an ending that was not final yet is overtaken: its hold still counts in full."""
    query = select(t.holds.c.id).where(
        t.holds.c.purchase_id == purchase.id,
        t.holds.c.kind == "purchase",
        t.holds.c.status == "held",
    )
    return Status(purchase.status) in FINAL and connection.execute(query).first() is not None


def _overrule(tx: Tx, purchase: Any, after: Status, now: int) -> None:
    """Take a move that the chain made and the table of moves does not have: after a restore.

    A hold that ended is held again, because the USDC has left; spending pauses until an approver
    has looked.
    """
    reopen_holds(tx, purchase.id)
    why = f"the chain moved {purchase.id} from {purchase.status} to {after}: check it, then unpause"
    pause_everything(tx, why, by="executor", now=now)
    before = purchase.status
    log.error("contradiction purchase_id=%s before=%s after=%s", purchase.id, before, after)
    tx.record(now, "contradiction", purchase.id, before=before, after=after)


def _why_cancelled(before: Status) -> str:
    if before in (Status.APPROVED, Status.CREATED):
        return "the escrow was cancelled before it was funded"
    if before is Status.DISPUTED:
        return "the dispute was decided with a refund"
    return "the escrow was cancelled and refunded; see penalty and refunded"
