"""The members of batches as rows, compared with the batch that each was allocated in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from coordinator.domain.chain.steps import IN_FLIGHT, StepKind
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.sums import exact_sum, read_sum

_s = t.steps.c
_batch = t.steps.alias()
_b = _batch.c
_IN_FLIGHT: Final = [status.value for status in IN_FLIGHT]
_OF_ITS_NONCE: Final = and_(
    _b.chain_id == _s.chain_id,
    _b.signer == _s.signer,
    _b.nonce == _s.nonce,
    _b.position == 0,
    _b.kind == StepKind.BATCH.value,
)


def apart(connection: Connection, *where: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """Return members that are in no batch of their nonce, or in flight in one that has ended."""
    ended = and_(_s.status.in_(_IN_FLIGHT), _b.status.not_in(_IN_FLIGHT))
    query = select(t.steps).outerjoin(_batch, and_(_b.id == _s.batch_id, _OF_ITS_NONCE))
    query = query.where(*where, _s.position > 0, or_(_b.id.is_(None), ended))
    return connection.execute(query.order_by(_s.id)).all()


def incomplete(connection: Connection, *where: ColumnElement[bool]) -> Sequence[int]:
    """Return the nonces of batches, by ``where`` on steps, without all that they were made of."""
    batches = select(_s.id, _s.nonce, _s.usdc).where(_s.kind == StepKind.BATCH.value, *where)
    of = batches.subquery().c
    columns = (of.id, of.nonce, of.usdc)
    query = (
        select(*columns, func.count(_b.id), func.max(_b.position), exact_sum(_b.usdc))
        .outerjoin(_batch, and_(_b.batch_id == of.id, _b.position > 0))
        .group_by(*columns)
        .order_by(of.nonce)
    )
    return [
        nonce
        for _, nonce, usdc, count, last, taken in connection.execute(query)
        if not count or count != last or read_sum(taken) != usdc
    ]
