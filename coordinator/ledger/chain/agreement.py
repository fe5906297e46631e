"""Compare a second reading of blocks with the books."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Table, select

from coordinator.domain.chain.events import WATCHED, ChainEvent, EventBatch
from coordinator.domain.chain.journal import Entry
from coordinator.ledger.chain.following import BEGUN, FOLLOWED
from coordinator.ledger.store import schema as t

_ASKED_AT_ONCE: Final = 500
Place = tuple[int, str, int]
"""Block number, block hash, log index."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a batch has events that the books lack, and the blocks of events that it lacks.

    Blocks are (number, hash) as the books name them.
    """

    missing: bool
    surplus: frozenset[tuple[int, str]]


def compare(connection: Connection, batch: EventBatch, entries: Iterable[Entry]) -> Agreement:
    """Compare the books with the batch, which makes ``entries``, in its own blocks alone."""
    told = {_place(event) for event in _ours(connection, batch)}
    seen = {_place(event) for event in batch.events if event.kind in WATCHED}
    made = {_place(entry) for entry in entries}
    followed, watched, booked = (
        _places(connection, kept, batch) for kept in (t.escrow_events, t.safe_events, t.journal)
    )
    surplus = (followed - told) | (watched - seen) | (booked - made)
    return Agreement(
        missing=bool(told - followed or seen - watched or made - booked),
        surplus=frozenset((number, block_hash) for number, block_hash, _ in surplus),
    )


def _ours(connection: Connection, batch: EventBatch) -> list[ChainEvent]:
    """The batch's events of escrows of ours: in the books, or begun in the batch."""
    followed = [e for e in batch.events if e.kind in FOLLOWED and e.escrow_id is not None]
    ours = {e.escrow_id for e in followed if e.kind in BEGUN}
    # The kernel's moves are those of everybody's escrows.
    asked = sorted({str(e.escrow_id) for e in followed} - ours)
    for start in range(0, len(asked), _ASKED_AT_ONCE):
        escrow_id = t.escrows.c.escrow_id
        known = select(escrow_id).where(escrow_id.in_(asked[start : start + _ASKED_AT_ONCE]))
        ours |= set(connection.execute(known).scalars())
    return [event for event in followed if event.escrow_id in ours]


def _places(connection: Connection, kept: Table, batch: EventBatch) -> set[Place]:
    c = kept.c
    query = select(c.block_number, c.block_hash, c.log_index).where(
        c.block_number > batch.after,
        c.block_number <= batch.to.number,
    )
    return {(number, block_hash, index) for number, block_hash, index in connection.execute(query)}


def _place(found: ChainEvent | Entry) -> Place:
    return (found.block_number, found.block_hash, found.log_index)
