"""Fold escrows from their stored events, and let purchases follow their escrows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, select, update

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

# Built once: a block may have events of hundreds of purchases, and to build a statement takes
# longer than to run it.
_OF: Final[BindParameter[Any]] = bindparam("of")
_ESCROW: Final = select(t.escrows).where(_e.escrow_id == _OF)
_ESCROWS: Final = select(_e.state, _e.escrow_key, _e.last_block).where(_e.purchase_id == _OF)
_EVENTS: Final = (
    select(t.escrow_events).where(_ev.escrow_id == _OF).order_by(_ev.block_number, _ev.log_index)
)
_STORE: Final = insert(t.escrow_events)
_INSERT_ESCROW: Final = insert(t.escrows)
_CHANGE_ESCROW: Final = update(t.escrows).where(_e.escrow_id == _OF)
_PURCHASE: Final = select(t.purchases).where(_p.id == _OF)
_OWNER: Final = select(_p.id, _p.agent, _p.provider, _p.amount, _p.service).where(
    _p.escrow_key == _OF, _p.status != Status.DENIED.value
)
_CREATOR: Final = (
    select(t.steps.c.purchase_id)
    .join(t.attempts, t.attempts.c.step_id == t.steps.c.id)
    .where(t.attempts.c.hash == _OF, t.steps.c.kind == StepKind.CREATE.value)
)
_MOVE: Final = (
    update(t.purchases)
    .where(_p.id == _OF)
    .values(
        status=bindparam("to_status"),
        updated_at=bindparam("now"),
        stranded=None,
        ended_at_block=bindparam("ended"),
        reason_code=bindparam("code"),
        reason_message=bindparam("message"),
    )
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
    known = _escrow(tx.connection, event.escrow_id)
    if not created and known is None:
        return None
    tx.connection.execute(_STORE, _event_row(event))
    escrow = _fold(tx, event.escrow_id, is_known=known is not None)
    if escrow.purchase_id is None:
        if event.kind is EventKind.ESCROW_FUNDED and not _is_key_of_a_purchase(tx, event):
            why = "USDC was paid for purchases unknown to this database: check it, then unpause"
            begin_recovery(tx, why, now=now)
            attribute_to_organisation(tx, event.escrow_id, now=now)
        return None
    return _follow(tx, escrow, event, now)


def fold_escrow(tx: Tx, escrow_id: str) -> Any:
    """Make the escrow's row what its stored events say; None, and no row, when none is left."""
    return _fold(tx, escrow_id, is_known=_escrow(tx.connection, escrow_id) is not None)


def _fold(tx: Tx, escrow_id: str, *, is_known: bool) -> Any:
    connection = tx.connection
    events = connection.execute(_EVENTS, {"of": escrow_id}).all()
    if not events:
        connection.execute(delete(t.escrows).where(_e.escrow_id == escrow_id))
        return None
    values = _folded(events)
    values["purchase_id"] = _owner(tx, events[0], values)
    if is_known:
        connection.execute(_CHANGE_ESCROW, {"of": escrow_id, **values})
    else:
        connection.execute(_INSERT_ESCROW, {"escrow_id": escrow_id, **values})
    return SimpleNamespace(escrow_id=escrow_id, **values)


def status_by_escrows(connection: Connection, purchase: Any) -> tuple[Status | None, int | None]:
    """The status that the purchase's escrows give it, and the block of its end.

    An escrow linked under its key decides; before that it is created while one is empty, and
    cancelled once none is. (None, None) without any.
    """
    escrows = connection.execute(_ESCROWS, {"of": purchase.id}).all()
    if not escrows:
        return None, None
    linked = next((e for e in escrows if e.escrow_key == purchase.escrow_key), None)
    if linked is not None:
        return STATUS_OF[EscrowState(linked.state)], linked.last_block
    if any(EscrowState(escrow.state) in EMPTY for escrow in escrows):
        return Status.CREATED, None
    return Status.CANCELLED, max(escrow.last_block for escrow in escrows)


def _escrow(connection: Connection, escrow_id: str) -> Any:
    return connection.execute(_ESCROW, {"of": escrow_id}).one_or_none()


def _is_key_of_a_purchase(tx: Tx, event: ChainEvent) -> bool:
    query = select(_p.id).where(_p.escrow_key == event.escrow_key, _p.status != Status.DENIED.value)
    return tx.connection.execute(query).first() is not None


def _event_row(event: ChainEvent) -> dict[str, Any]:
    return {
        "block_hash": event.block_hash,
        "log_index": event.log_index,
        "block_number": event.block_number,
        "tx_hash": event.tx_hash,
        "at": event.at,
        "kind": event.kind.value,
        "escrow_id": event.escrow_id,
        "escrow_key": event.escrow_key,
        "provider": event.provider,
        "amount": event.amount.base_units if event.amount is not None else None,
        "service_hash": event.service_hash,
        "deadline": event.deadline,
        "state": event.state.value if event.state is not None else None,
        "window_ends": event.window_ends,
    }


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
        return tx.connection.execute(_CREATOR, {"of": created.tx_hash}).scalar()
    owner = tx.connection.execute(_OWNER, {"of": escrow["escrow_key"]}).one_or_none()
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
    purchase = connection.execute(_PURCHASE, {"of": owner_id}).one()
    before = Status(purchase.status)
    after, ended_at_block = status_by_escrows(connection, purchase)
    linked = escrow.escrow_key == purchase.escrow_key
    if after is None or before is after or (before in FINAL and not linked):
        return None
    if after not in MOVES[before] and not _end_was_taken_back(connection, purchase):
        _overrule(tx, purchase, after, now)
    reason: tuple[str | None, str | None] = None, None
    if after is Status.CANCELLED:
        reason = purchase.reason_code, purchase.reason_message
        if purchase.reason_code is None:
            reason = ReasonCode.CANCELLED.value, _why_cancelled(before)
    values = {
        "of": owner_id,
        "to_status": after.value,
        "now": now,
        "ended": ended_at_block if after in FINAL else None,
        "code": reason[0],
        "message": reason[1],
    }
    connection.execute(_MOVE, values)
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
