"""Copy the database while it is written to, and prove that the copy is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.domain.audit import Head
from coordinator.domain.errors import InvalidRequest, LedgerUnavailable
from coordinator.domain.shown import Shown
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.opening import open_database

_BESIDE: Final = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Backup(Shown):
    """A checked copy; ``faults`` are those of its audit log."""

    path: Path
    size_bytes: int
    head: Head
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        return {
            "backup": str(self.path),
            "size_bytes": self.size_bytes,
            "audit_head": str(self.head),
            "ok": self.ok,
            "faults": list(self.faults),
        }


def back_up(database: Database, path: Path, audit: AuditLog) -> Backup:
    """Write a whole copy to ``path``, sync it and read it again; writers go on meanwhile.

    InvalidRequest when the file exists or can't be made, LedgerUnavailable when the copy is
    damaged: then nothing is left at ``path``. A copy whose audit log is not whole is kept, and
    says so, because it may be the last one.
    """
    if os.path.lexists(path):
        raise InvalidRequest(f"{path} exists already; nothing was written")
    with _unfinished(path) as copy:
        database.copy_to(copy)
        _check_integrity(copy)
        with closing(open_database(f"sqlite:///{copy}")) as opened:
            found = verify(audit.of(opened))
        _make_one_file(copy)
        _publish(copy, path)
        return Backup(path, path.stat().st_size, found.head, found.faults)


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Make a file beside ``path`` that only its owner can read; it is removed afterwards."""
    copy = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield copy
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be written: {fault.strerror}") from None
    finally:
        for suffix in _BESIDE:
            with contextlib.suppress(OSError):
                copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def _check_integrity(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        except sqlite3.DatabaseError as fault:
            found, broken = [str(fault)], None
    if found != ["ok"] or broken is not None:
        what = (
            found[0] if found != ["ok"] else f"a row of {broken[0]} refers to a row that is missing"
        )
        raise LedgerUnavailable(f"the copy is damaged and was not kept: {what}")


def _make_one_file(copy: Path) -> None:
    # In WAL mode a file without those beside it could miss its last writes.
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    handle = os.open(copy, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(copy: Path, path: Path) -> None:
    """Give the finished copy its name, without replacing a file made meanwhile."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise InvalidRequest(f"{path} exists already; nothing was written") from None
    copy.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
