"""Rebuild a fresh database from the chain, the id secret and an audit export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from coordinator.books.follower import Follower, Progress
from coordinator.books.reconciler import Reconciler
from coordinator.domain.audit import Head
from coordinator.domain.chain.reconciliation import Reconciliation
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.ports import ChainReader, Clock
from coordinator.executor.checkpoint import Checkpoint
from coordinator.garbage import seldom_collected
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.chain.chain_book import ChainBook
from coordinator.ledger.restore.audit_import import AuditImport, Rebirth
from coordinator.ledger.tx.operations import OperationsBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Rebuilds a database, or continues an interrupted rebuild. It never signs anything.

    ``formers`` read the accounts that the treasury had before.
    """

    chain: ChainReader
    formers: Sequence[ChainReader]
    books: ChainBook
    operations: OperationsBook
    follower: Follower
    reconciler: Reconciler
    audit: AuditLog
    imports: AuditImport
    checkpoint: Checkpoint
    clock: Clock

    @seldom_collected()
    def rebuild(
        self,
        audit: Path | None,
        *,
        head: str | None = None,
        progress: Progress | None = None,
    ) -> Reconciliation:
        """Import the export at ``audit``, read everything from the chain, and compare.

        ``head`` is COUNT:HASH, noted before. ConfigurationError when the database has followed
        the chain already.
        """
        if self.books.cursor() is not None and not self.operations.recovering():
            raise ConfigurationError(
                "rebuild needs an empty database; this one has a journal: use another"
                " COORDINATOR_DATABASE_URL, or `coordinator recover`"
            )
        if audit is not None:
            with _opened(audit) as lines:
                self._import(lines, _parsed(head))
        why = "rebuilt from the chain: check it, then run `coordinator unpause`"
        self.operations.begin_recovery(why, now=self.clock())
        # A log that this host's worker has seen more of is accepted by the same unpause.
        self.checkpoint.advance(now=self.clock())

        def sealing(first: int, reached: int, last: int) -> None:
            # Signatures made a moment ago are known; a seal spares everybody to verify them later.
            self.checkpoint.advance(now=self.clock())
            if progress is not None:
                progress(first, reached, last)

        events = self.follower.follow(self.chain.observe(), progress=sealing).events
        final = self.books.final()
        if final is not None:
            self.books.end_holds(final.number, now=self.clock())
            self.checkpoint.advance(now=self.clock())
        found = self.reconciler.reconcile()
        start = self.follower.start_block
        return replace(found, from_block=start, events=events + found.events)

    def _import(self, export: Iterable[bytes], expected: Head | None) -> None:
        file, done = self.audit.read_export(export, expected), self.imports.done()
        if done is None:
            seen, others = self.chain.observe(), [chain.observe() for chain in self.formers]
            at = Rebirth(
                start_block=self.follower.start_block,
                # Without a final block yet, what is on its way is awaited instead.
                final_number=seen.final_number if seen.final is not None else seen.head.number,
                nonces={one.account: one.nonce for one in (seen, *others)},
                now=self.clock(),
            )
            self.imports.carry_out(file, at)
        elif done.head != file.head:
            raise ConfigurationError(
                f"this database was begun from the export that ends with {done.head}, and this is"
                f" another, {file.head}: give the same file, or use a fresh database"
            )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be read: {fault.strerror}") from None


def _parsed(head: str | None) -> Head | None:
    try:
        return Head.parse(head) if head is not None else None
    except ValueError as fault:
        raise InvalidRequest(str(fault)) from None
