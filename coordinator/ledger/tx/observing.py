"""Write transactions that tell observers after the commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from coordinator.domain.observed import Emit, Event
from coordinator.ledger.store.database import Database


@contextmanager
def write_and_tell(database: Database, emit: Emit) -> Iterator[tuple[Connection, list[Event]]]:
    """One write transaction; what is put into the list is emitted after its commit."""
    events: list[Event] = []
    with database.write() as connection:
        yield connection, events
    for event in events:
        emit(event)
