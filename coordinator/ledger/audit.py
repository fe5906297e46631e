"""The audit log: every decision and state change, chained by a key kept outside the database."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select

from coordinator.domain.canonical import canonical_json
from coordinator.domain.journal import Entry
from coordinator.ledger import schema as t
from coordinator.ledger.database import Database

_GENESIS: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Head:
    """How many rows the log has, and the hash of the last one."""

    count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.count}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """From ``COUNT:HASH``; ValueError with one sentence otherwise."""
        count, _, digest = text.partition(":")
        if not count.isdecimal() or len(digest) != 64:
            raise ValueError("an audit head is COUNT:HASH, as `coordinator audit head` prints it")
        return cls(int(count), digest.lower())


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the log is whole; ``faults`` name each row or range that is not."""

    head: Head
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults


class AuditLog:
    """Appends rows inside the transactions of others; reads and verifies in its own."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def append(
        self, connection: Connection, at: int, event: str, subject: str, **body: Any
    ) -> None:
        """Add one row, chained to the last, in the caller's transaction."""
        previous = _head(connection)
        seq = previous.count + 1
        text = canonical_json(body).decode()
        digest = self._hash(previous.hash, seq, at, event, subject, text)
        connection.execute(
            insert(t.audit).values(
                seq=seq, at=at, event=event, subject=subject, body=text, hash=digest
            )
        )

    def record(self, at: int, event: str, subject: str, **body: Any) -> None:
        """Add one row in a transaction of its own."""
        with self._database.write() as connection:
            self.append(connection, at, event, subject, **body)

    def head(self) -> Head:
        """Count and hash of the last row; (0, zeros) of an empty log."""
        with self._database.read() as connection:
            return _head(connection)

    def rows(self, after: int = 0, *, subject: str | None = None) -> Iterator[dict[str, Any]]:
        """Rows after sequence number ``after``, oldest first, as plain data; all or a subject's."""
        query = select(t.audit).where(t.audit.c.seq > after).order_by(t.audit.c.seq)
        if subject is not None:
            query = query.where(t.audit.c.subject == subject)
        with self._database.read() as connection:
            for row in connection.execute(query).mappings():
                yield {**row, "body": json.loads(row["body"])}

    def verify(self, expected: Head | None = None) -> Verification:
        """Recompute the whole chain, and the digests of the journal that it holds.

        Finds edited, deleted and reordered rows; a cut-off end only against ``expected``, a head
        noted earlier.
        """
        faults: list[str] = []
        entries_logged = 0
        with self._database.read() as connection:
            previous = Head(0, _GENESIS)
            at_expected = previous.hash if expected and expected.count == 0 else None
            query = select(t.audit).order_by(t.audit.c.seq)
            for row in connection.execute(query):
                if row.seq != previous.count + 1:
                    faults.append(f"rows {previous.count + 1} to {row.seq - 1} are missing")
                if not self._stands(previous.hash, row):
                    faults.append(f"row {row.seq} ({row.event} {row.subject}) was changed or moved")
                elif row.event == "journal_written":
                    written = json.loads(row.body)
                    entries_logged += written["entries"]
                    faults.extend(_journal_faults(connection, written))
                previous = Head(row.seq, row.hash)
                if expected and row.seq == expected.count:
                    at_expected = row.hash
            faults.extend(_unlogged_entries(connection, entries_logged))
        if expected is not None and at_expected != expected.hash:
            short = previous.count < expected.count
            faults.append(
                f"the log ends at row {previous.count}, before the head {expected.count} given"
                if short
                else f"row {expected.count} is not the one of the head given"
            )
        return Verification(previous, tuple(faults))

    def _stands(self, previous: str, row: Any) -> bool:
        try:
            digest = self._hash(previous, row.seq, row.at, row.event, row.subject, row.body)
            return hmac.compare_digest(digest.encode(), row.hash.encode())
        except (AttributeError, TypeError, ValueError):
            # SQLite keeps any type in any column: what can't be hashed was not written here.
            return False

    def _hash(self, previous: str, seq: int, at: int, event: str, subject: str, body: str) -> str:
        message = canonical_json([previous, seq, at, event, subject, body])
        return hmac.new(self._key, message, sha256).hexdigest()


def entries_digest(entries: list[Entry]) -> str:
    """SHA-256 over the entries of one batch, in order of (block, log index)."""
    return _digest(
        [
            (
                entry.block_number,
                entry.block_hash,
                entry.log_index,
                entry.tx_hash,
                entry.at,
                entry.kind.value,
                entry.debit,
                entry.credit,
                entry.amount.base_units,
                entry.escrow_key,
            )
            for entry in entries
        ]
    )


def _digest(rows: list[tuple[Any, ...]]) -> str:
    return sha256(canonical_json([list(row) for row in rows])).hexdigest()


def _journal_faults(connection: Connection, written: dict[str, Any]) -> Iterator[str]:
    j = t.journal.c
    query = (
        select(
            j.block_number,
            j.block_hash,
            j.log_index,
            j.tx_hash,
            j.at,
            j.kind,
            j.debit,
            j.credit,
            j.amount,
            j.escrow_key,
        )
        .where(j.block_number > written["after"], j.block_number <= written["to"])
        .order_by(j.block_number, j.log_index)
    )
    rows = [tuple(row) for row in connection.execute(query)]
    try:
        same = _digest(rows) == written["digest"]
    except (TypeError, ValueError):
        same = False
    if not same:
        yield (
            f"the journal of blocks {written['after'] + 1} to {written['to']} was changed:"
            f" {len(rows)} entries stand where {written['entries']} were written"
        )


def _unlogged_entries(connection: Connection, logged: int) -> Iterator[str]:
    total = connection.execute(select(func.count()).select_from(t.journal)).scalar_one()
    if total != logged:
        yield f"the journal has {total} entries and the log knows of {logged}"


def _head(connection: Connection) -> Head:
    query = select(t.audit.c.seq, t.audit.c.hash).order_by(t.audit.c.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return Head(row.seq, row.hash) if row else Head(0, _GENESIS)
