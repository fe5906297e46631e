"""Purchases in progress: approved ones, and those whose escrows are not at their end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from coordinator.domain.chain.events import EMPTY, EscrowState
from coordinator.domain.purchase.lifecycle import FINAL, UNLINKED, X402, Status
from coordinator.domain.purchase.planning import OpenPurchase, OwnEscrow
from coordinator.domain.usdc import Usdc
from coordinator.ledger.chain.steps import StepBook
from coordinator.ledger.spend.reading import escrows_of
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import batched

_p = t.purchases.c
_e = t.escrows.c
_AT_ONCE: Final = 500
_WAITED_FOR: Final = [
    status.value
    for status in Status
    if status not in FINAL and status is not Status.AWAITING_APPROVAL
]
_LEFT_OVER: Final = select(_e.purchase_id).where(
    _e.state.in_([state.value for state in EMPTY]), _e.purchase_id.is_not(None)
)
_OPEN: Final = (_p.status.in_(_WAITED_FOR) & (_p.settle != X402)) | _p.id.in_(_LEFT_OVER)
_PAYMENTS: Final = select(_p.escrow_key).where(
    _p.settle == X402, _p.status == Status.APPROVED.value
)


class Waiting(NamedTuple):
    """A purchase that has a call to be signed before it is funded."""

    agent: str | None
    provider_name: str | None


class InProgress(NamedTuple):
    """Purchases in progress: their number, those that wait, and ids and keys of their escrows.

    ``payments`` are the nonces of payments for HTTP requests, which are in that number too.
    """

    purchases: int
    waiting: Sequence[Waiting]
    escrows: frozenset[str]
    payments: frozenset[str]


def read_in_progress(connection: Connection) -> InProgress:
    """Read what has to be signed, and the escrows whose moves are followed."""
    query = select(_p.status, _p.stranded, _p.agent, _p.provider_name).where(_OPEN)
    rows = connection.execute(query.order_by(_p.seq)).all()
    waiting = [
        Waiting(row.agent, row.provider_name)
        for row in rows
        if row.status in UNLINKED and not row.stranded
    ]
    followed = select(_e.escrow_id, _p.escrow_key).join(t.purchases, _p.id == _e.purchase_id)
    names = (name for row in connection.execute(followed.where(_OPEN)) for name in row)
    payments = frozenset(connection.execute(_PAYMENTS).scalars())
    return InProgress(len(rows) + len(payments), waiting, frozenset(names), payments)


def load_open(connection: Connection, steps: StepBook) -> list[OpenPurchase]:
    """Load what is in progress, with steps and escrows, oldest first."""
    rows = connection.execute(select(t.purchases).where(_OPEN).order_by(_p.seq)).all()
    escrows, foreign, made = dict[str, Sequence[Any]](), set(), defaultdict(list)
    for part in batched(rows, _AT_ONCE):
        ids = [row.id for row in part]
        escrows |= escrows_of(connection, ids)
        keys = [row.escrow_key for row in part]
        unowned = select(_e.escrow_key).where(_e.escrow_key.in_(keys), _e.purchase_id.is_(None))
        foreign |= set(connection.execute(unowned).scalars())
        for step in steps.of_purchases(connection, ids):
            made[step.call.purchase_id].append(step)
    return [
        OpenPurchase(
            id=row.id,
            status=Status(row.status),
            agent=row.agent,
            provider=row.provider,
            provider_name=row.provider_name,
            amount=Usdc.from_base_units(row.amount),
            service=row.service,
            escrow_key=row.escrow_key,
            approved_at=row.approved_at or row.created_at,
            settle=row.settle,
            cancel_wanted=bool(row.cancel_wanted),
            settle_wanted=bool(row.settle_wanted),
            stranded=row.stranded,
            key_known=row.escrow_key in foreign,
            escrows=tuple(map(_own_escrow, escrows.get(row.id, ()))),
            steps=tuple(made[row.id]),
        )
        for row in rows
    ]


def _own_escrow(row: Any) -> OwnEscrow:
    return OwnEscrow(
        escrow_id=row.escrow_id,
        state=EscrowState(row.state),
        requester=row.requester,
        linked=bool(row.linked),
        amount=Usdc.from_base_units(row.amount),
        deadline=row.deadline,
        window_ends=row.window_ends,
    )
