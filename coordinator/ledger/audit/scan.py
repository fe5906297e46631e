"""Prove many rows of one snapshot, without verifying each signature that a worker has sealed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from sqlalchemy import Connection, select

from coordinator.domain.audit import AuditRow
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.audit.export import GENESIS
from coordinator.ledger.audit.hosts import Host, Hosts
from coordinator.ledger.audit.proof_rows import proof_rows
from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.audit.seals import Seal, newest_seal, seal_rows
from coordinator.ledger.store import schema as t

_PAGE: Final = 500


class Checks(Protocol):
    """The checks of an audit log that a scan needs."""

    hosts: Hosts
    codes: RowCodes

    def is_chained(self, previous: str, row: AuditRow) -> bool: ...

    def is_signed(self, row: AuditRow, host: Host | None) -> bool: ...


class Scan:
    """Proves rows like ``AuditLog.proven``. What it found is true only if ``end`` names no fault.

    Up to the seal a row needs no signature, if the chain of all rows there ends with the sealed
    hash. So each has to be compared with the one before it: ``end`` does that for the rows that
    nobody asked for.
    """

    def __init__(self, log: Checks, connection: Connection) -> None:
        self._log = log
        self._connection = connection
        self.codes = log.codes
        self._hosts = log.hosts.all(connection)
        self._seals = seal_rows(connection)
        self.seal = newest_seal(self._seals, self._hosts.values())
        self._seen = bytearray(self.seal.count + 1)

    def stands(self, previous: str, row: AuditRow) -> bool:
        """Return whether the row follows ``previous``, and its host has signed it or a worker."""
        if not self._log.is_chained(previous, row):
            return False
        if 0 < row.seq <= self.seal.count:
            stands = row.seq < self.seal.count or row.hash == self.seal.hash
            self._seen[row.seq] = stands
            return stands
        return self._log.is_signed(row, self._hosts.get(row.host))

    def proven(
        self,
        connection: Connection,
        *subjects: str,
        events: Sequence[str] = (),
        skip: bool = False,
    ) -> list[AuditRow]:
        """Return the subjects' rows as ``AuditLog.proven`` does."""
        found = []
        for *values, previous in proof_rows(connection, subjects, tuple(events), None, False):
            row = AuditRow(*values)
            if self.stands(GENESIS if row.seq == 1 else previous, row):
                found.append(row)
            elif not skip:
                raise LedgerTampered(f"audit row {row.seq} ({row.event} {row.subject})")
        return found

    def seals(self) -> dict[int, str]:
        """Return the hashes that workers have sealed, by row; of those that were revoked none."""
        hosts = self._hosts.values()
        return {row["count"]: row["hash"] for row in self._seals if Seal(**row).stands(hosts)}

    def seal_faults(self) -> Iterator[str]:
        """Name the seals that no worker has made; one of a worker that was revoked is just old."""
        ever = [replace(host, last_row=None) for host in self._hosts.values()]
        for row in self._seals:
            if not Seal(**row).stands(ever):
                yield f"the seal of row {row['count']} was made by no worker"

    def revocation_faults(self, row: AuditRow) -> Iterator[str]:
        """Compare a row that tells of a revocation with its host."""
        if row.event != "host_revoked":
            return
        host = self._hosts.get(row.subject)
        if host is not None and host.last_row != row.body["last_row"]:
            yield f"host {row.subject}: its revocation is gone"

    def end(self) -> Iterator[str]:
        """Compare the sealed rows that were not asked for with those before them."""
        c = t.audit.c
        for numbers in self._unseen():
            before = select(c.seq, c.hash).where(c.seq.in_([number - 1 for number in numbers]))
            hashes = {seq: digest for seq, digest in self._connection.execute(before)}
            hashes[0] = GENESIS
            query = select(t.audit).where(c.seq.in_(numbers))
            rows = {values[0]: AuditRow(*values) for values in self._connection.execute(query)}
            for number in numbers:
                row = rows.get(number)
                if row is None:
                    yield f"row {number} of the audit log is missing"
                    return
                if not self.stands(hashes.get(number - 1, ""), row):
                    yield f"row {number} ({row.event} {row.subject}) was changed or moved"

    def _unseen(self) -> Iterator[list[int]]:
        numbers, at = [], 0
        while (at := self._seen.find(0, at + 1)) != -1:
            numbers.append(at)
            if len(numbers) == _PAGE:
                yield numbers
                numbers = []
        if numbers:
            yield numbers
