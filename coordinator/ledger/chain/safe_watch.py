"""Acts on a treasury that is a Safe: kept, told once each, and foreign hands stop spending."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.domain.chain.events import WATCHED, ChainEvent, EventKind
from coordinator.domain.notices import treasury_change_lost, treasury_watched
from coordinator.ledger.spend.signed import SIGNED
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

SUBJECT: Final = "safe"
_BEGUN: Final = "safe_watched"
_w = t.safe_events.c
_KEEP: Final = Prepared(
    insert(t.safe_events),
    *("block_hash", "log_index", "block_number", "tx_hash", "at", "kind", "name", "said"),
    *("told", "lost"),
)


def begin_watching(tx: Tx, number: int, *, now: int) -> None:
    """Note the chain's block when this database began: what lies before is kept and not told.

    It is how the Safe was set up, or what another database has told.
    """
    tx.record(now, _BEGUN, SUBJECT, after=number)


def watch(tx: Tx, events: Iterable[ChainEvent], reached: int, *, now: int) -> None:
    """Keep what is done to the Safe up to block ``reached``, and tell it, each event once.

    What a rollback had put aside and the chain has again is not told again; what it has no more is
    told to be gone.
    """
    lost = {(row.block_hash, row.log_index): row for row in _put_aside(tx.connection, reached)}
    found = [event for event in events if event.kind in WATCHED]
    begun = _begun(tx) if found else 0
    for event in found:
        place = event.block_hash, event.log_index
        if lost.pop(place, None) is not None:
            again = update(t.safe_events).where(*_at(*place)).values(lost=0)
            tx.connection.execute(again)
            continue
        told = event.block_number > begun and not _is_ours(tx, event)
        tx.insert(_KEEP, _row(event, told))
        if told:
            _tell(tx, event, now)
    for place, row in lost.items():
        tx.connection.execute(delete(t.safe_events).where(*_at(*place)))
        if row.told:
            _tell_lost(tx, row, now)


def put_aside(connection: Connection, above: int) -> None:
    """Doubt what was read of blocks above a number, until they are read again."""
    connection.execute(update(t.safe_events).where(_w.block_number > above).values(lost=1))


def _put_aside(connection: Connection, reached: int) -> Iterable[Any]:
    query = select(t.safe_events).where(_w.lost == 1, _w.block_number <= reached)
    return connection.execute(query.order_by(_w.block_number, _w.log_index)).all()


def _at(block_hash: str, log_index: int) -> tuple[Any, ...]:
    return _w.block_hash == block_hash, _w.log_index == log_index


def _begun(tx: Tx) -> int:
    rows = tx.proven(SUBJECT, events=(_BEGUN,), skip=True)
    return int(rows[-1].body["after"]) if rows else -1


def _is_ours(tx: Tx, event: ChainEvent) -> bool:
    """Whether the role was used by a transaction that the log tells this treasury has signed."""
    if event.kind is not EventKind.ROLE_USED or event.foreign:
        return False
    a, s = t.attempts.c, t.steps.c
    step = select(a.step_id).where(a.hash == event.tx_hash).scalar_subquery()
    of = (s.id == step) | (s.batch_id == step)
    rows = tx.connection.execute(select(s.purchase_id, s.reference).where(of)).all()
    for subject in {row.purchase_id or row.reference for row in rows} - {None}:
        signed = tx.proven(subject, events=SIGNED, skip=True)
        if any(row.body["tx_hash"] == event.tx_hash for row in signed):
            return True
    return False


def _row(event: ChainEvent, told: bool) -> Mapping[str, Any]:
    return {
        "block_hash": event.block_hash,
        "log_index": event.log_index,
        "block_number": event.block_number,
        "tx_hash": event.tx_hash,
        "at": event.at,
        "kind": event.kind.value,
        "name": event.name,
        "said": event.said,
        "told": int(told),
        "lost": 0,
    }


def _tell(tx: Tx, event: ChainEvent, now: int) -> None:
    """Write it to the audit log, tell people, and stop spending where it is a foreign hand."""
    kind = event.kind
    foreign = event.foreign or kind is not EventKind.TREASURY_CHANGED
    said = f"{event.said}: {_WHY[kind]}" if foreign else str(event.said)
    where = {"tx_hash": event.tx_hash, "block": event.block_number}
    log.error("%s tx_hash=%s: %s", kind, event.tx_hash, said)
    tx.record(now, kind.value, SUBJECT, name=event.name, why=said, foreign=foreign, **where)
    tx.notify([treasury_watched(event, said, now, foreign=foreign)])
    if foreign:
        why = f"{said} ({event.tx_hash}); check it, then unpause"
        pause_everything(tx, why, by="executor", now=now)


_WHY: Final[Mapping[EventKind, str]] = {
    EventKind.ROLE_USED: "this treasury has not sent it, so somebody else has the key",
    EventKind.TREASURY_CHANGED: "the treasury's limits name nothing like it",
    EventKind.APPROVAL_LEFT: "whoever has the key may spend it beyond the limit",
}


def _tell_lost(tx: Tx, row: Any, now: int) -> None:
    log.warning("treasury_change_lost name=%s tx_hash=%s", row.name, row.tx_hash)
    tx.record(
        now, "treasury_change_lost", SUBJECT, name=row.name, why=row.said, tx_hash=row.tx_hash
    )
    place = f"{row.block_hash}:{row.log_index}"
    tx.notify([treasury_change_lost(place, row.said, row.tx_hash, now)])
