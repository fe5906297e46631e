"""The audit log: every decision and state change, chained by a key kept outside the database.

Each row is signed by the host that wrote it: the chain's key is every deciding host's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, literal_column, select, true

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import ConfigurationError, InvalidRequest, LedgerTampered
from coordinator.domain.hosts import may_write
from coordinator.domain.typed_data import Trust
from coordinator.ledger.audit.certifying import certify, refused, revoked, uncertified
from coordinator.ledger.audit.export import (
    GENESIS,
    ExportFile,
    IsSigned,
    Signers,
    first_line,
    line_of,
    read_export,
)
from coordinator.ledger.audit.hosts import Host, Hosts, OwnHost, host_rows
from coordinator.ledger.audit.proof_rows import BEFORE, proof_rows
from coordinator.ledger.audit.row_checks import RowChecks
from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.audit.scan import Scan
from coordinator.ledger.audit.seals import seal_rows
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.prepared import Prepared, batched

_SEQ: Final = t.audit.c.seq
_LAST: Final = (
    select(t.audit.c.seq, t.audit.c.hash).order_by(t.audit.c.seq.desc()).limit(literal_column("1"))
)
_HEAD: Final = Prepared(_LAST)
_ONE: Final = select(literal_column("1").label("one")).subquery("one")
_TAIL_HEAD: Final = _LAST.subquery("last")
# One round trip: who appends is looked up with what is appended to.
_TAIL: Final = Prepared(
    select(_TAIL_HEAD, t.hosts).select_from(
        _ONE.outerjoin(_TAIL_HEAD, true()).outerjoin(
            t.hosts, t.hosts.c.public_key == bindparam("key_")
        )
    )
)
# SQLite took 999 values in a statement for long.
_SUBJECTS_MAX: Final = 500
_COLUMNS: Final = ("seq", "at", "event", "subject", "body", "hash", "host", "signature")
_APPEND: Final = Prepared(insert(t.audit), *_COLUMNS)


class AuditEntry(NamedTuple):
    """One row to append: when (unix seconds), what happened, to whom, and the body as text."""

    at: int
    event: str
    subject: str
    body: str

    @classmethod
    def of(cls, at: int, event: str, subject: str, body: Mapping[str, Any]) -> AuditEntry:
        return cls(at, event, subject, canonical_json(body).decode())


class Tail(NamedTuple):
    """The end of the log, to which rows are appended, and this host as the database has it."""

    head: Head
    own: Host


class AuditLog:
    """Appends rows inside the transactions of others; reads and verifies in its own.

    ``treasury`` is the treasury's account and ``signer`` the one whose key certifies hosts, by
    default those of the database; ``formers`` are the treasury's accounts before, for which people
    may have signed. ``own`` gives this host, without which nothing can be appended.
    """

    def __init__(
        self,
        database: Database,
        key: bytes,
        *,
        treasury: str | None = None,
        signer: str | None = None,
        formers: Sequence[str] = (),
        own: Callable[[], OwnHost] | None = None,
    ) -> None:
        self.database = database
        self._key = key
        self._own = own
        self.hosts = Hosts(treasury, formers, signer=signer)
        self.checks = RowChecks(key)
        self.codes = RowCodes(self.hosts, self.own_host)

    def of(self, database: Database) -> AuditLog:
        """Return the log of a copy of this database, to be read."""
        known = self.hosts
        return AuditLog(
            database,
            self._key,
            treasury=known.treasury,
            signer=known.signer,
            formers=known.formers,
        )

    def append_all(
        self, connection: Connection, entries: Sequence[AuditEntry], tail: Tail | None = None
    ) -> Tail:
        """Add rows, each chained to the one before and signed, in the caller's transaction.

        ``tail`` is the one before them, where the caller knows it; the one after them is returned.
        ConfigurationError, and nothing is written, when this host may not write them.
        """
        own = self.own_host()
        if tail is None:
            tail = self.join(connection, now=entries[0].at)
        return self._append(connection, entries, tail, own)

    def join(self, connection: Connection, *, now: int) -> Tail:
        """Return what this host appends to, having certified it if need be.

        ConfigurationError when it may not write.
        """
        own = self.own_host()
        head, host = self._tail(connection, own)
        if host is None:
            made = certify(connection, self.hosts, own, head.count, now)
            entry = AuditEntry.of(now, *made.told)
            return self._append(connection, [entry], Tail(head, made.host), own)
        if host.revoked:
            raise revoked(host)
        return Tail(head, host)

    def _append(
        self, connection: Connection, entries: Sequence[AuditEntry], tail: Tail, own: OwnHost
    ) -> Tail:
        (seq, digest), host = (tail.head.count, tail.head.hash), tail.own
        role, name = host.certificate.role, host.id
        rows = []
        for at, event, subject, text in entries:
            if not may_write(role, event):
                raise refused(host, event)
            seq += 1
            digest = self.checks.digest(digest, seq, at, event, subject, text, name)
            signature = self.checks.signatures.make(own.key, digest)
            values = (seq, at, event, subject, text, digest, name, signature)
            rows.append(dict(zip(_COLUMNS, values, strict=True)))
        _APPEND.each(connection, rows)
        return Tail(Head(seq, digest), host)

    def check_may_write(self) -> None:
        """Refuse, as ConfigurationError, a host that is not certified and can't certify itself."""
        own = self.own_host()
        with self.database.read() as connection:
            _, host = self._tail(connection, own)
        if host is None and own.sign is None:
            raise uncertified(own)
        if host is not None and host.revoked:
            raise revoked(host)

    def own_host(self) -> OwnHost:
        """Return this host; ConfigurationError where the log was opened to be read."""
        if self._own is None:
            raise ConfigurationError("this audit log was opened to be read: nothing was written")
        return self._own()

    def _tail(self, connection: Connection, own: OwnHost) -> tuple[Head, Host | None]:
        row = _TAIL.one(connection, {"key_": own.key.public_key})
        assert row is not None
        head = Head(row[0], row[1]) if row[0] is not None else Head(0, GENESIS)
        return head, self.hosts.read(connection, row[2:]) if row[2] is not None else None

    def head(self) -> Head:
        """Count and hash of the last row; (0, zeros) of an empty log."""
        with self.database.read() as connection:
            return read_head(connection)

    def rows(
        self, after: int = 0, *, subject: str | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Rows after sequence number ``after``, oldest first, as plain data; all or a subject's."""
        query = select(t.audit).where(t.audit.c.seq > after).order_by(t.audit.c.seq).limit(limit)
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
        for *values, previous, certificate, revocation in proof_rows(
            connection, subjects, tuple(events), newest, True
        ):
            row = AuditRow(*values)
            host = self.hosts.find(connection, row.host, certificate, revocation)
            if self.stands(GENESIS if row.seq == 1 else previous, row, host):
                found.append(row)
            elif not skip:
                raise LedgerTampered(f"audit row {row.seq} ({row.event} {row.subject})")
        return found[::-1] if newest else found

    def proven_each(
        self, connection: Connection, subjects: Iterable[str]
    ) -> Mapping[str, list[AuditRow] | LedgerTampered]:
        """Return each subject's rows as ``proven`` does, or what it would raise, in few reads."""
        found: dict[str, list[AuditRow] | LedgerTampered] = {one: [] for one in subjects}
        for part in batched(found, _SUBJECTS_MAX):
            for *values, previous, certificate, revocation in proof_rows(
                connection, part, (), None, True
            ):
                row = AuditRow(*values)
                rows = found[row.subject]
                if isinstance(rows, LedgerTampered):
                    continue
                host = self.hosts.find(connection, row.host, certificate, revocation)
                if self.stands(GENESIS if row.seq == 1 else previous, row, host):
                    rows.append(row)
                else:
                    fault = f"audit row {row.seq} ({row.event} {row.subject})"
                    found[row.subject] = LedgerTampered(fault)
        return found

    def tail(self, connection: Connection, after: int, limit: int) -> list[tuple[AuditRow, bool]]:
        """Return the next rows after a number, oldest first, each with whether it stands."""
        query = select(t.audit, BEFORE.c.hash).outerjoin(BEFORE, BEFORE.c.seq == _SEQ - 1)
        query = query.where(after < _SEQ).order_by(_SEQ).limit(limit)
        found, hosts = [], self.hosts.all(connection)
        for *values, previous in connection.execute(query):
            row = AuditRow(*values)
            before = GENESIS if row.seq == 1 else previous
            found.append((row, self.stands(before, row, hosts.get(row.host))))
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
            previous, scan = head, Scan(self, connection)
            for row in connection.execute(query):
                found = AuditRow(*row)
                stands = found.seq == previous.count + 1 and scan.stands(previous.hash, found)
                if not stands or any(scan.revocation_faults(found)):
                    raise LedgerTampered(f"audit row {found.seq} ({found.event} {found.subject})")
                previous = Head(found.seq, found.hash)
                yield found
            if previous.count < scan.seal.count:
                raise LedgerTampered(f"audit row {scan.seal.count}, which was sealed, is gone")

    def export(self) -> Iterator[bytes]:
        """The whole log as lines of an export, of one instant; ``read_export`` takes them."""
        with self.database.read() as connection:
            signers = Signers(host_rows(connection), seal_rows(connection))
            yield first_line(read_head(connection), signers, self.hosts.trust(connection))
            for row in connection.execute(select(t.audit).order_by(t.audit.c.seq)):
                yield line_of(AuditRow(*row))

    def read_export(self, lines: Iterable[bytes], expected: Head | None = None) -> ExportFile:
        """An export of a log with this log's key, verified while it is read.

        InvalidRequest, there and then, for what was changed, moved or left out; what was cut off
        at the end together with the first line's head is found only by ``expected``.
        """

        def make_check(head: Head, signers: Signers, trust: Trust | None) -> IsSigned:
            with self.database.read() as connection:
                own = self.hosts.trust(connection)
                hosts = self.hosts.of(connection, signers.hosts)
            if trust is not None and trust.of_now() != (own and own.of_now()):
                raise InvalidRequest(
                    f"the export was signed for treasury {trust.treasury} on chain"
                    f" {trust.chain_id}, kernel {trust.kernel}: not for this one"
                )
            return self.checks.of_export(head, signers, hosts)

        return read_export(lines, self.checks.digest, make_check, expected)

    def stands(self, previous: str, row: AuditRow, host: Host | None) -> bool:
        """Return whether the row follows ``previous`` and ``host`` may have written it, and did."""
        return self.is_chained(previous, row) and self.is_signed(row, host)

    def is_chained(self, previous: str, row: AuditRow) -> bool:
        """Return whether the row follows ``previous`` and was written with this log's key."""
        return self.checks.is_chained(previous, row)

    def is_signed(self, row: AuditRow, host: Host | None) -> bool:
        """Return whether the host's certificate covers the row, and its key signed the hash."""
        return self.checks.is_signed(row, host)


def read_head(connection: Connection) -> Head:
    """Count and hash of the last row in the caller's transaction; (0, zeros) of an empty log."""
    row = _HEAD.one(connection)
    return Head(row[0], row[1]) if row else Head(0, GENESIS)
