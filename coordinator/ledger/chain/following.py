"""Fold escrows from their stored events, and let purchases follow their escrows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    delete,
    insert,
    literal_column,
    null,
    select,
    update,
)

from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EMPTY, ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.purchase.lifecycle import FINAL, MOVES, STATUS_OF, Status
from coordinator.domain.reasons import ReasonCode
from coordinator.ledger.proofs.audit_fold import LoggedState
from coordinator.ledger.spend.adoption import attribute_to_organisation
from coordinator.ledger.spend.holds import reopen_holds
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.pausing import begin_recovery, pause_everything
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c
_ev = t.escrow_events.c
FOLLOWED: Final = frozenset(
    {EventKind.ESCROW_CREATED, EventKind.ESCROW_FUNDED, EventKind.ESCROW_MOVED}
)


class _StoredEvent(NamedTuple):
    kind: str
    block_number: int
    tx_hash: str
    at: int
    escrow_key: str | None
    requester: str | None
    provider: str
    amount: int
    service_hash: str
    deadline: int
    state: str | None
    window_ends: int | None


class _Owner(NamedTuple):
    id: str
    status: str
    escrow_key: str
    reason_code: str | None
    reason_message: str | None


class _Terms(NamedTuple):
    id: str
    agent: str | None
    provider: str
    amount: int
    service: str | None


class _FoldedEscrow(NamedTuple):
    escrow_id: str
    escrow_key: str | None
    purchase_id: str | None


# Prepared: a past has events of thousands of purchases, each of which takes eight statements.
_OF: Final[BindParameter[Any]] = bindparam("of")
_KNOWN: Final = Prepared(select(_e.seq).where(_e.escrow_id == _OF))
_ESCROWS: Final = Prepared(
    select(_e.state, _e.escrow_key, _e.last_block).where(_e.purchase_id == _OF)
)
_EVENTS: Final = Prepared(
    select(*(_ev[name] for name in _StoredEvent._fields))
    .where(_ev.escrow_id == _OF)
    .order_by(_ev.block_number, _ev.log_index)
)
_STORE: Final = Prepared(
    insert(t.escrow_events),
    *("block_hash", "log_index", "block_number", "tx_hash", "at", "kind", "escrow_id"),
    *("escrow_key", "requester", "provider", "amount", "service_hash", "deadline"),
    *("state", "window_ends"),
)
_FOLDED: Final = (
    *("escrow_key", "requester", "provider", "amount", "service_hash", "state", "deadline"),
    *("window_ends", "created_at", "last_block", "purchase_id"),
)
_INSERT_ESCROW: Final = Prepared(insert(t.escrows), "escrow_id", *_FOLDED)
# A parameter may not have the name of a column that is set.
_CHANGE_ESCROW: Final = Prepared(
    update(t.escrows)
    .where(_e.escrow_id == _OF)
    .values({name: bindparam(f"to_{name}") for name in _FOLDED})
)
_PURCHASE: Final = Prepared(select(*(_p[name] for name in _Owner._fields)).where(_p.id == _OF))
_ASKED: Final = Prepared(
    select(*(_p[name] for name in _Terms._fields)).where(
        _p.escrow_key == _OF, _p.status != literal_column(f"'{Status.DENIED.value}'")
    )
)
_CREATOR: Final = Prepared(
    select(t.steps.c.purchase_id)
    .join(t.attempts, t.attempts.c.step_id == t.steps.c.id)
    .where(
        t.attempts.c.hash == _OF,
        t.steps.c.kind == literal_column(f"'{StepKind.CREATE.value}'"),
    )
)
_MOVE: Final = Prepared(
    update(t.purchases)
    .where(_p.id == _OF)
    .values(
        status=bindparam("to_status"),
        updated_at=bindparam("now"),
        stranded=null(),
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
    is_known = _has_escrow(tx.connection, event.escrow_id)
    if not created and not is_known:
        return None
    _STORE.each(tx.connection, [_event_row(event)])
    escrow = _fold(tx, event.escrow_id, is_known=is_known)
    assert escrow is not None
    if escrow.purchase_id is None:
        funded = event.kind is EventKind.ESCROW_FUNDED
        if funded and _ASKED.one(tx.connection, {"of": event.escrow_key}) is None:
            why = "USDC was paid for purchases unknown to this database: check it, then unpause"
            begin_recovery(tx, why, now=now)
            attribute_to_organisation(tx, event.escrow_id, now=now)
        return None
    return _follow(tx, escrow, event, now)


def fold_escrow(tx: Tx, escrow_id: str) -> None:
    """Make the escrow's row what its stored events say; no row is left when they say nothing."""
    _fold(tx, escrow_id, is_known=_has_escrow(tx.connection, escrow_id))


def _fold(tx: Tx, escrow_id: str, *, is_known: bool) -> _FoldedEscrow | None:
    connection = tx.connection
    events = [_StoredEvent(*row) for row in _EVENTS.rows(connection, {"of": escrow_id})]
    if not events:
        connection.execute(delete(t.escrows).where(_e.escrow_id == escrow_id))
        return None
    values = _folded(events)
    values["purchase_id"] = _owner(tx, events[0], values)
    if is_known:
        changed = {f"to_{name}": value for name, value in values.items()}
        _CHANGE_ESCROW.each(connection, [{"of": escrow_id, **changed}])
    else:
        _INSERT_ESCROW.each(connection, [{"escrow_id": escrow_id, **values}])
    return _FoldedEscrow(escrow_id, values["escrow_key"], values["purchase_id"])


def status_by_escrows(connection: Connection, purchase: Any) -> tuple[Status | None, int | None]:
    """The status that the purchase's escrows give it, and the block of its end.

    An escrow linked under its key decides; before that it is created while one is empty, and
    cancelled once none is. (None, None) without any.
    """
    escrows = _ESCROWS.rows(connection, {"of": purchase.id})
    if not escrows:
        return None, None
    for state, escrow_key, last_block in escrows:
        if escrow_key == purchase.escrow_key:
            return STATUS_OF[EscrowState(state)], last_block
    if any(EscrowState(state) in EMPTY for state, _, _ in escrows):
        return Status.CREATED, None
    return Status.CANCELLED, max(last_block for _, _, last_block in escrows)


def _has_escrow(connection: Connection, escrow_id: str) -> bool:
    return _KNOWN.one(connection, {"of": escrow_id}) is not None


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
        "requester": event.requester,
        "provider": event.provider,
        "amount": event.amount.base_units if event.amount is not None else None,
        "service_hash": event.service_hash,
        "deadline": event.deadline,
        "state": event.state.value if event.state is not None else None,
        "window_ends": event.window_ends,
    }


def _folded(events: Sequence[_StoredEvent]) -> dict[str, Any]:
    first = events[0]
    values: dict[str, Any] = {
        "escrow_key": None,
        "requester": first.requester,
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


def _owner(tx: Tx, created: _StoredEvent, escrow: dict[str, Any]) -> str | None:
    """The purchase under whose key it is linked; before that the one whose step created it.

    One whose row was changed since owns what was decided: the log tells it.
    """
    if escrow["escrow_key"] is None:
        creator = _CREATOR.one(tx.connection, {"of": created.tx_hash})
        return creator[0] if creator is not None else None
    asked_for = _ASKED.one(tx.connection, {"of": escrow["escrow_key"]})
    if asked_for is None:
        return None
    owner = _Terms(*asked_for)
    # One that is known from the chain alone has no service name that could be compared.
    service = escrow["service_hash"] if owner.agent is None else service_hash(owner.service)
    asked = (owner.provider.lower(), owner.amount, service)
    paid = (escrow["provider"].lower(), escrow["amount"], escrow["service_hash"])
    if asked == paid or _decided_terms(tx, owner.id) == paid:
        return owner.id
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


def _follow(tx: Tx, escrow: _FoldedEscrow, event: ChainEvent, now: int) -> str | None:
    connection, owner_id = tx.connection, escrow.purchase_id
    assert owner_id is not None
    (row,) = _PURCHASE.rows(connection, {"of": owner_id})
    purchase = _Owner(*row)
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
    _MOVE.each(connection, [values])
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


def _end_was_taken_back(connection: Connection, purchase: _Owner) -> bool:
    """Whether an ending that was not final yet is overtaken: its hold still counts in full."""
    query = select(t.holds.c.id).where(
        t.holds.c.purchase_id == purchase.id,
        t.holds.c.kind == "purchase",
        t.holds.c.status == "held",
    )
    return Status(purchase.status) in FINAL and connection.execute(query).first() is not None


def _overrule(tx: Tx, purchase: _Owner, after: Status, now: int) -> None:
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
