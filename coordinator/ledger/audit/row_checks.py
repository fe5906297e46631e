"""Check rows of a log by the chain's key and the certificates of its hosts, without a database."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from coordinator.domain.audit import AuditRow, Head
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.typed_data import Trust
from coordinator.ledger.audit.export import ExportFile, IsSigned, Signers, read_export
from coordinator.ledger.audit.hosts import Host, hosts_of
from coordinator.ledger.audit.seals import newest_seal
from coordinator.ledger.audit.signatures import Signatures


class RowChecks:
    """Hashes and signatures of rows; ``signatures`` made here are known already."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.signatures = Signatures(b"coordinator audit row\0")

    def digest(
        self, previous: str, seq: int, at: int, event: str, subject: str, body: str, host: str
    ) -> str:
        """Return the hash of a row after the one with the hash ``previous``."""
        message = canonical_json([previous, seq, at, event, subject, body, host])
        return hmac.digest(self._key, message, "sha256").hex()

    def is_chained(self, previous: str, row: AuditRow) -> bool:
        """Return whether the row follows ``previous`` and was written with this log's key."""
        try:
            digest = self.digest(
                previous, row.seq, row.at, row.event, row.subject, row.text, row.host
            )
            return hmac.compare_digest(digest.encode(), row.hash.encode())
        except (AttributeError, TypeError, ValueError):
            # SQLite keeps any type in any column: what can't be hashed was not written here.
            return False

    def is_signed(self, row: AuditRow, host: Host | None) -> bool:
        """Return whether the host's certificate covers the row, and its key signed the hash."""
        return (
            host is not None
            and host.id == row.host
            and host.may_have_written(row.seq, row.event)
            and self.signatures.proves(host.certificate.public_key, row.signature, row.hash)
        )

    def read_export(self, lines: Iterable[bytes], expected: Head | None = None) -> ExportFile:
        """Return an export, its hosts certified by the treasury that it names, verified as it is
        read.

        InvalidRequest as ``AuditLog.read_export``, and where it names no treasury.
        """

        def make_check(head: Head, signers: Signers, trust: Trust | None) -> IsSigned:
            if trust is None:
                raise InvalidRequest(
                    "the export does not say for which treasury it was signed: export it anew"
                )
            return self.of_export(head, signers, hosts_of(trust, signers.hosts))

        return read_export(lines, self.digest, make_check, expected)

    def of_export(self, head: Head, signers: Signers, hosts: Mapping[str, Host]) -> IsSigned:
        """Return the check of an export's rows; InvalidRequest where sealed ones are missing."""
        seal = newest_seal(signers.seals, hosts.values())
        if seal.count > head.count:
            raise InvalidRequest(
                f"the export ends at row {head.count}, and row {seal.count} was sealed"
            )

        def is_signed(row: AuditRow) -> bool:
            if row.seq <= seal.count:
                return row.seq < seal.count or row.hash == seal.hash
            return self.is_signed(row, hosts.get(row.host))

        return is_signed
