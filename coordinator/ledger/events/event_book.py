"""Read public events: rows of the audit log, with the agent that each belongs to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from coordinator.domain.audit import AuditRow
from coordinator.domain.events.event import PublicEvent
from coordinator.domain.events.table import TABLE, Owner
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.log import AuditLog, read_head
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database

log = logging.getLogger(__name__)

PAGE_ROWS: Final = 500
_KNOWN_MAX: Final = 20_000
_KEY_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Page:
    """The events of the rows in (after, position], oldest first."""

    after: int
    position: int
    events: Sequence[PublicEvent]
    #: When each API key that was revoked or rotated ends, by its id.
    key_ends: Mapping[str, int]
    more: bool


@dataclass(frozen=True, slots=True)
class _Owned:
    """A thing: its agent, and the fields of every event about it."""

    agent: str | None
    fields: Mapping[str, Any]


_NOBODYS: Final = _Owned(None, {})


class EventBook:
    """Reads pages of public events; a row that the log's key did not write is left out."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit
        self._mutex = threading.Lock()
        self._known: dict[tuple[Owner, str], _Owned] = {}

    def head(self) -> int:
        """Return the number of the log's last row."""
        with self._database.read() as connection:
            return read_head(connection).count

    def read(self, after: int, limit: int = PAGE_ROWS) -> Page:
        """Return the events among the next ``limit`` rows after a number."""
        with self._database.read() as connection:
            rows = self._audit.tail(connection, after, limit)
            proven = [row for row, stands in rows if stands]
            told = [(row, row.body) for row in proven if row.event in TABLE]
            told = [(row, body) for row, body in told if not TABLE[row.event].left_out(body)]
            owners = self._owners(connection, told)
        for row, stands in rows:
            if not stands:
                log.error("event_not_told seq=%s: the audit row was changed", row.seq)
        return Page(
            after=after,
            position=rows[-1][0].seq if rows else after,
            events=[_event(row, body, owners) for row, body in told],
            key_ends=_key_ends(proven),
            more=len(rows) == limit,
        )

    def one(self, seq: int) -> PublicEvent | None:
        """Return the event of one row; None when the row was changed or tells nothing."""
        return next(iter(self.read(seq - 1, 1).events), None)

    def _owners(
        self, connection: Connection, told: Iterable[tuple[AuditRow, Mapping[str, Any]]]
    ) -> Mapping[tuple[Owner, str], _Owned]:
        wanted = {key for row, body in told if (key := _key(row, body)) is not None}
        with self._mutex:
            found = {key: self._known[key] for key in wanted if key in self._known}
        for kind in Owner:
            missing = [thing for of, thing in wanted - found.keys() if of is kind]
            if missing:
                found |= _read(connection, kind, missing)
        with self._mutex:
            if len(self._known) > _KNOWN_MAX:
                self._known.clear()
            # An escrow found by a rebuild gets its agent later.
            self._known |= {key: one for key, one in found.items() if one.agent is not None}
        return found


def _event(
    row: AuditRow, body: Mapping[str, Any], owners: Mapping[tuple[Owner, str], _Owned]
) -> PublicEvent:
    told, key = TABLE[row.event], _key(row, body)
    owned = _NOBODYS if key is None else owners.get(key, _NOBODYS)
    fields = {**told.fields(row.subject, body), **owned.fields}
    name = f"evt_{row.hash[:_KEY_DIGITS]}"
    return PublicEvent(row.seq, told.type, row.at, owned.agent, name, fields)


def _key(row: AuditRow, body: Mapping[str, Any]) -> tuple[Owner, str] | None:
    told = TABLE[row.event]
    return None if told.owner is None else (told.owner, told.owned_by(row.subject, body))


def _key_ends(rows: Iterable[AuditRow]) -> Mapping[str, int]:
    ends = {row.subject: row.at for row in rows if row.event == "api_key_revoked"}
    rotated = [row for row in rows if row.event == "api_key_rotated"]
    return {row.subject: row.body["expires_at"] for row in rotated} | ends


def _read(
    connection: Connection, kind: Owner, things: Sequence[str]
) -> Mapping[tuple[Owner, str], _Owned]:
    rows = [dict(row) for row in connection.execute(_query(kind, things)).mappings()]
    return {(kind, row["id"]): _Owned(row["agent"], _shared_fields(row)) for row in rows}


def _query(kind: Owner, things: Sequence[str]) -> Select[Any]:
    if kind is Owner.PURCHASE:
        p = t.purchases.c
        names = ("id", "agent", "amount", "provider", "provider_name", "task", "session")
        return select(*(p[name] for name in names)).where(p.id.in_(things))
    if kind is Owner.COST:
        k, h = t.costs.c, t.holds.c
        joined = t.costs.outerjoin(t.holds, h.cost_id == k.id)
        columns = (k.id, k.agent, h.amount, k.provider, k.task, k.session)
        return select(*columns).select_from(joined).where(k.id.in_(things))
    if kind is Owner.INCREASE:
        i = t.increases.c
        return select(i.id, i.agent, i.amount).where(i.id.in_(things))
    o = t.openings.c
    return select(o.id, o.agent).where(o.kind == kind.value, o.id.in_(things))


def _shared_fields(row: Mapping[str, Any]) -> Mapping[str, Any]:
    told = {name: value for name, value in row.items() if name not in ("id", "agent", "amount")}
    if row.get("amount") is not None:
        told["amount"] = str(Usdc.from_base_units(row["amount"]))
    return told
