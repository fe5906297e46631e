"""The audit log: every decision and state change, chained by a key kept outside the database."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, bindparam, insert, literal_column, or_, select

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.audit.export import GENESIS, ExportFile, first_line, line_of, read_export
from coordinator.ledger.audit.row_mac import RowMac
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared

_BEFORE: Final = t.audit.alias("before")
_SEQ: Final = t.audit.c.seq
_HEAD: Final = Prepared(
    select(t.audit.c.seq, t.audit.c.hash).order_by(t.audit.c.seq.desc()).limit(literal_column("1"))
)
_APPEND: Final = Prepared(insert(t.audit), "seq", "at", "event", "subject", "body", "hash")


class AuditEntry(NamedTuple):
    """One row to append: when (unix seconds), what happened, to whom, and the body as text."""

    at: int
    event: str
    subject: str
    body: str

    @classmethod
    def of(cls, at: int, event: str, subject: str, body: Mapping[str, Any]) -> AuditEntry:
        return cls(at, event, subject, canonical_json(body).decode())


class AuditLog:
    """Appends rows inside the transactions of others; reads and verifies in its own."""

    def __init__(self, database: Database, key: bytes) -> None:
        self.database = database
        self._key = key
        self.mac = RowMac(key)

    def append_all(
        self, connection: Connection, entries: Sequence[AuditEntry], head: Head | None = None
    ) -> Head:
        """Add rows, each chained to the one before, in the caller's transaction; the last one.

        ``head`` is the last one before them, where the caller knows it.
        """
        head = head or read_head(connection)
        seq, digest = head.count, head.hash
        rows = []
        for at, event, subject, text in entries:
            seq += 1
            digest = self._hash(digest, seq, at, event, subject, text)
            rows.append(
                {
                    "seq": seq,
                    "at": at,
                    "event": event,
                    "subject": subject,
                    "body": text,
                    "hash": digest,
                }
            )
        _APPEND.each(connection, rows)
        return Head(seq, digest)

    def head(self) -> Head:
        """Count and hash of the last row; (0, zeros) of an empty log."""
        with self.database.read() as connection:
            return read_head(connection)

    def rows(self, after: int = 0, *, subject: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows after sequence number ``after``, oldest first, as plain data; all or a subject's."""
        query = select(t.audit).where(t.audit.c.seq > after).order_by(t.audit.c.seq)
        if subject is not None:
            query = query.where(t.audit.c.subject == subject)
        with self.database.read() as connection:
            for row in connection.execute(query).mappings():
                yield {**row, "body": json.loads(row["body"])}

    def proven(
        self,
        connection: Connection,
        *subjects: str,
        events: Sequence[str] = (),
        newest: int | None = None,
        skip: bool = False,
    ) -> list[AuditRow]:
        """Return the subjects' rows (without any, all rows), oldest first, each proved by itself.

        ``events`` are those that count, all without any; ``newest`` how many of the last ones.
        LedgerTampered when one was changed, moved or made up; with ``skip`` it is left out. That
        none was taken out is not proved here: ``verify`` and the executor's checkpoint do.
        """
        found = []
        for *values, previous in _proof_rows(connection, subjects, tuple(events), newest):
            row = AuditRow(*values)
            if self.stands(GENESIS if row.seq == 1 else previous, row):
                found.append(row)
            elif not skip:
                raise LedgerTampered(f"audit row {row.seq} ({row.event} {row.subject})")
        return found[::-1] if newest else found

    def tail(self, connection: Connection, after: int, limit: int) -> list[tuple[AuditRow, bool]]:
        """Return the next rows after a number, oldest first, each with whether it stands."""
        query = select(t.audit, _BEFORE.c.hash).outerjoin(_BEFORE, _BEFORE.c.seq == _SEQ - 1)
        query = query.where(after < _SEQ).order_by(_SEQ).limit(limit)
        found = []
        for *values, previous in connection.execute(query):
            row = AuditRow(*values)
            found.append((row, self.stands(GENESIS if row.seq == 1 else previous, row)))
        return found

    def after(self, head: Head) -> Iterator[AuditRow]:
        """Yield the rows after ``head``, oldest first, each verified with the one before it.

        LedgerTampered when the log has no such head any more, and at the first row that is wrong.
        """
        query = select(t.audit).where(t.audit.c.seq > head.count).order_by(t.audit.c.seq)
        last = select(t.audit.c.hash).where(t.audit.c.seq == head.count)
        with self.database.read() as connection:
            if head.count and connection.execute(last).scalar() != head.hash:
                raise LedgerTampered(f"audit row {head.count} is gone, or is another one")
            previous = head
            for row in connection.execute(query):
                found = AuditRow(*row)
                if found.seq != previous.count + 1 or not self.stands(previous.hash, found):
                    raise LedgerTampered(f"audit row {found.seq} ({found.event} {found.subject})")
                previous = Head(found.seq, found.hash)
                yield found

    def export(self) -> Iterator[bytes]:
        """The whole log as lines of an export, of one instant; ``read_export`` takes them."""
        with self.database.read() as connection:
            yield first_line(read_head(connection))
            for row in connection.execute(select(t.audit).order_by(t.audit.c.seq)):
                yield line_of(AuditRow(*row))

    def read_export(self, lines: Iterable[bytes], expected: Head | None = None) -> ExportFile:
        """An export of a log with this log's key, verified while it is read.

        InvalidRequest, there and then, for what was changed, moved or left out; what was cut off
        at the end together with the first line's head is found only by ``expected``.
        """
        return read_export(lines, self._hash, expected)

    def stands(self, previous: str, row: AuditRow) -> bool:
        """Return whether the row follows ``previous`` and was written with this log's key."""
        try:
            digest = self._hash(previous, row.seq, row.at, row.event, row.subject, row.text)
            return hmac.compare_digest(digest.encode(), row.hash.encode())
        except (AttributeError, TypeError, ValueError):
            # SQLite keeps any type in any column: what can't be hashed was not written here.
            return False

    def _hash(self, previous: str, seq: int, at: int, event: str, subject: str, body: str) -> str:
        message = canonical_json([previous, seq, at, event, subject, body])
        return hmac.digest(self._key, message, "sha256").hex()


def _proof_rows(
    connection: Connection, subjects: tuple[str, ...], events: tuple[str, ...], newest: int | None
) -> Sequence[Sequence[Any]]:
    """Rows, each with the hash of the one before; a decision asks for those of one subject."""
    if len(subjects) > 1:
        query = _proof_query(True, events, newest)
        return connection.execute(query, {"subjects": subjects}).all()
    named = {"subject_": subjects[0]} if subjects else {}
    return _small_proof(bool(subjects), events, newest).rows(connection, named)


@lru_cache(maxsize=64)
def _small_proof(one: bool, events: tuple[str, ...], newest: int | None) -> Prepared:
    query = _proof_query(False, events, newest)
    return Prepared(query.where(t.audit.c.subject == bindparam("subject_")) if one else query)


@lru_cache(maxsize=64)
def _proof_query(some: bool, events: tuple[str, ...], newest: int | None) -> Select[Any]:
    """Build the query once for each form of it."""
    c = t.audit.c
    query = select(t.audit, _BEFORE.c.hash).outerjoin(_BEFORE, _BEFORE.c.seq == c.seq - 1)
    if some:
        query = query.where(c.subject.in_(bindparam("subjects", expanding=True)))
    if events:
        # Literally: an index of some events alone is used only where the text names them.
        query = query.where(or_(*(c.event == literal_column(f"'{e}'") for e in events)))
    return query.order_by(c.seq.desc() if newest else c.seq).limit(newest)


def read_head(connection: Connection) -> Head:
    """Count and hash of the last row in the caller's transaction; (0, zeros) of an empty log."""
    row = _HEAD.one(connection)
    return Head(row[0], row[1]) if row else Head(0, GENESIS)
