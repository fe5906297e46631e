"""Escrows and purchases follow the rail's events, in order, in the caller's transaction."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, insert, select, update

from coordinator.domain.chain_events import STATUS_OF, ChainEvent, EscrowState, EventKind
from coordinator.domain.escrow_key import service_hash
from coordinator.domain.policy import Policy
from coordinator.domain.purchase import FINAL, MOVES, Status
from coordinator.domain.reasons import ReasonCode
from coordinator.domain.steps import StepKind
from coordinator.ledger import schema as t
from coordinator.ledger.adoption import attribute_to_organisation
from coordinator.ledger.audit import AuditLog
from coordinator.ledger.counters import reopen_hold

log = logging.getLogger(__name__)

_p = t.purchases.c
_e = t.escrows.c


def apply_event(
    connection: Connection, audit: AuditLog, event: ChainEvent, adopting: Policy | None, now: int
) -> str | None:
    """Bring escrows and their purchases to what ``event`` says; strangers' escrows are ignored.

    Returns what to log once it is committed, None when no purchase moved.
    With ``adopting`` (after a lost database) a funded escrow that no purchase knows gets one. A
    move that the table of moves does not have is taken all the same, told and paused for.
    """
    if event.kind is EventKind.ESCROW_CREATED:
        _created(connection, event)
    elif event.kind is EventKind.ESCROW_FUNDED:
        _funded(connection, audit, event, adopting, now)
    elif event.kind is not EventKind.ESCROW_MOVED:
        return None
    query = select(t.escrows).where(_e.escrow_id == event.escrow_id)
    escrow = connection.execute(query).one_or_none()
    if escrow is None:
        return None
    if event.kind is EventKind.ESCROW_MOVED:
        assert event.state is not None
        changed: dict[str, Any] = {"state": event.state.value, "last_block": event.block_number}
        if event.window_ends is not None:
            changed["window_ends"] = event.window_ends
        connection.execute(update(t.escrows).where(_e.escrow_id == event.escrow_id).values(changed))
    state = event.state or EscrowState(escrow.state)
    return _follow(connection, audit, escrow, state, event, now)


def _created(connection: Connection, event: ChainEvent) -> None:
    assert event.amount is not None
    creator = connection.execute(
        select(t.steps.c.purchase_id)
        .join(t.attempts, t.attempts.c.step_id == t.steps.c.id)
        .where(t.attempts.c.hash == event.tx_hash, t.steps.c.kind == StepKind.CREATE.value)
    ).scalar()
    connection.execute(
        insert(t.escrows).values(
            escrow_id=event.escrow_id,
            purchase_id=creator,
            provider=event.provider,
            amount=event.amount.base_units,
            service_hash=event.service_hash,
            state=EscrowState.CREATED.value,
            deadline=event.deadline,
            created_at=event.at,
            last_block=event.block_number,
        )
    )


def _funded(
    connection: Connection, audit: AuditLog, event: ChainEvent, adopting: Policy | None, now: int
) -> None:
    escrow = connection.execute(
        select(t.escrows).where(_e.escrow_id == event.escrow_id)
    ).one_or_none()
    if escrow is None or event.amount is None:
        return
    owner = connection.execute(
        select(_p.id, _p.provider, _p.amount, _p.service).where(
            _p.escrow_key == event.escrow_key, _p.status != Status.DENIED.value
        )
    ).one_or_none()
    owner_id = owner.id if owner else None
    paid = (escrow.provider.lower(), event.amount.base_units, escrow.service_hash)
    if owner is not None and _terms(owner) != paid:
        # Ours by key but not by terms: nobody asked for this, so no purchase owns it.
        owner_id = None
    connection.execute(
        update(t.escrows)
        .where(_e.escrow_id == event.escrow_id)
        .values(
            escrow_key=event.escrow_key,
            purchase_id=owner_id,
            amount=event.amount.base_units,
            state=EscrowState.FUNDED.value,
            last_block=event.block_number,
        )
    )
    if owner is None and adopting is not None:
        attribute_to_organisation(connection, audit, adopting, escrow.escrow_id, now=now)


def _terms(purchase: Any) -> tuple[str, int, str]:
    return purchase.provider.lower(), purchase.amount, service_hash(purchase.service)


def _follow(
    connection: Connection,
    audit: AuditLog,
    escrow: Any,
    state: EscrowState,
    event: ChainEvent,
    now: int,
) -> str | None:
    owner_id = connection.execute(
        select(_e.purchase_id).where(_e.escrow_id == escrow.escrow_id)
    ).scalar()
    if owner_id is None:
        return None
    purchase = connection.execute(select(t.purchases).where(_p.id == owner_id)).one()
    before, after = Status(purchase.status), STATUS_OF[state]
    linked = escrow.escrow_key == purchase.escrow_key
    if before is after or (not linked and _has_linked(connection, purchase)):
        return None
    if before in FINAL and not linked:
        return None
    if after not in MOVES[before]:
        _overrule(connection, audit, purchase, after, now)
    values: dict[str, Any] = {"status": after.value, "updated_at": now, "stranded": None}
    if after in FINAL:
        values["ended_at_block"] = event.block_number
    if after is not Status.CANCELLED:
        values.update(reason_code=None, reason_message=None)
    elif purchase.reason_code is None:
        why = _why_cancelled(before)
        values.update(reason_code=ReasonCode.CANCELLED.value, reason_message=why)
    connection.execute(update(t.purchases).where(_p.id == owner_id).values(values))
    audit.append(
        connection,
        now,
        f"purchase_{after}",
        owner_id,
        before=before.value,
        escrow_id=escrow.escrow_id,
        tx_hash=event.tx_hash,
        block=event.block_number,
    )
    return f"purchase_{after} purchase_id={owner_id} tx_hash={event.tx_hash}"


def _overrule(
    connection: Connection, audit: AuditLog, purchase: Any, after: Status, now: int
) -> None:
    """Take a move that the chain made and the table of moves does not have: after a restore.

    A hold that ended is held again, because the USDC has left; spending pauses until an approver
    has looked.
    """
    reopen_hold(connection, purchase.id)
    why = f"the chain moved {purchase.id} from {purchase.status} to {after}: check it, then unpause"
    where = (t.pauses.c.scope_kind == "organisation", t.pauses.c.scope_id == "")
    if connection.execute(select(t.pauses).where(*where)).first() is None:
        connection.execute(
            insert(t.pauses).values(
                scope_kind="organisation", scope_id="", reason=why, by="executor", at=now
            )
        )
    before = purchase.status
    log.error("contradiction purchase_id=%s before=%s after=%s", purchase.id, before, after)
    audit.append(connection, now, "contradiction", purchase.id, before=before, after=after)


def _has_linked(connection: Connection, purchase: Any) -> bool:
    query = select(_e.seq).where(
        _e.purchase_id == purchase.id, _e.escrow_key == purchase.escrow_key
    )
    return connection.execute(query).first() is not None


def _why_cancelled(before: Status) -> str:
    if before in (Status.APPROVED, Status.CREATED):
        return "the escrow was cancelled before it was funded"
    if before is Status.DISPUTED:
        return "the dispute was decided with a refund"
    return "the escrow was cancelled and refunded; see penalty and refunded"
