"""Verify the audit log, and everything that the other tables hold against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import select

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.errors import InvalidRequest, LedgerTampered
from coordinator.domain.ports import SafeReader
from coordinator.domain.statements.pins import Pins
from coordinator.domain.typed_data import Trust
from coordinator.ledger.audit.export import GENESIS
from coordinator.ledger.audit.journal_proof import JournalProof
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.audit.row_checks import RowChecks
from coordinator.ledger.audit.scan import Scan
from coordinator.ledger.proofs.replay.replay import SignatureReplay, Signatures
from coordinator.ledger.proofs.replay.safe_records import differences
from coordinator.ledger.proofs.row_proofs import row_faults
from coordinator.ledger.store import schema as t


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the log is whole; ``faults`` name each row or range that is not."""

    head: Head
    faults: tuple[str, ...]
    signatures: Signatures = field(default_factory=Signatures)
    trust: Trust | None = None

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "ok": self.ok,
            "audit_head": str(self.head),
            "faults": list(self.faults),
            "signed_for": None if self.trust is None else asdict(self.trust),
            "signatures": self.signatures.counted,
            "safe_signatures_not_compared": len(self.signatures.safes),
            "unsigned_policies": list(self.signatures.unsigned),
        }


def verify(
    log: AuditLog, expected: Head | None = None, *, pins: Pins | None = None
) -> Verification:
    """Recompute the whole chain, and compare with it what the other tables hold.

    Finds edited, deleted and reordered rows, entries of the journal that are not those of its
    digests, and purchases, approvals, holds, costs, orders, policies, overlays, tasks and
    steps that are not what the log tells. A cut-off end is found only against ``expected``, a
    head noted earlier. Approvers' signatures are checked as ``verify_export`` does.
    """
    faults: list[str] = []
    journal = JournalProof()
    with log.database.read() as connection:
        previous, scan = Head(0, GENESIS), Scan(log, connection)
        sealed, trust = scan.seals(), log.hosts.trust(connection)
        replay = SignatureReplay(trust, pins)
        at_expected = previous.hash if expected and expected.count == 0 else None
        query = select(t.audit).order_by(t.audit.c.seq)
        for values in connection.execute(query):
            row = AuditRow(*values)
            if row.seq != previous.count + 1:
                faults.append(f"rows {previous.count + 1} to {row.seq - 1} are missing")
            if not scan.stands(previous.hash, row):
                faults.append(
                    f"row {row.seq} ({row.event} {row.subject}) {_wrong(log, previous, row)}"
                )
            elif row.event == "journal_written":
                journal.written(row.body)
            elif row.event == "journal_rolled_back":
                journal.rolled_back(row.body)
            faults.extend(scan.revocation_faults(row))
            faults.extend(replay.take(row))
            previous = Head(row.seq, row.hash)
            if sealed.pop(row.seq, row.hash) != row.hash:
                faults.append(f"row {row.seq} is not the one that was sealed")
            if expected and row.seq == expected.count:
                at_expected = row.hash
        faults.extend(replay.faults())
        faults.extend(journal.faults(connection))
        faults.extend(scan.seal_faults())
        faults.extend(f"row {count}, which was sealed, is gone" for count in sealed)
        try:
            faults.extend(row_faults(connection, scan))
        except LedgerTampered as fault:
            faults.append(fault.what)
    if expected is not None and at_expected != expected.hash:
        short = previous.count < expected.count
        faults.append(
            f"the log ends at row {previous.count}, before the head {expected.count} given"
            if short
            else f"row {expected.count} is not the one of the head given"
        )
    return Verification(previous, tuple(faults), replay.found(), trust)


def verify_export(
    lines: Iterable[bytes],
    checks: RowChecks,
    expected: Head | None = None,
    *,
    pins: Pins | None = None,
) -> Verification:
    """Verify an export without any database: its chain, and each approver's signature.

    A signature that is missing where one was needed, malformed, by no credential of the policy in
    force at its row, or of another statement is a fault; so is what was done without enough of
    them. A Safe's is checked against the owners that were recorded: ``compared`` asks the chain.
    ``pins``: who has to have signed the first version of the policy that was signed.
    InvalidRequest for a file that is no export.
    """
    file = checks.read_export(lines, expected)
    faults: list[str] = []
    replay = SignatureReplay(file.trust, pins)
    try:
        for row in file.rows:
            faults.extend(replay.take(row))
        faults.extend(replay.faults())
    except InvalidRequest as fault:
        # Nothing behind it can be told from what was made up.
        faults.append(str(fault))
    return Verification(file.head, tuple(faults), replay.found(), file.trust)


def compared(found: Verification, safes: SafeReader) -> Verification:
    """Compare the owners that were recorded of Safes with the chain, at the recorded blocks."""
    faults = [fault for word in found.signatures.safes for fault in differences(word, safes)]
    signatures = replace(found.signatures, safes=())
    return replace(found, faults=(*found.faults, *faults), signatures=signatures)


def _wrong(log: AuditLog, previous: Head, row: AuditRow) -> str:
    if log.is_chained(previous.hash, row):
        return f"was not signed by a host that may write it ({row.host})"
    return "was changed or moved"
