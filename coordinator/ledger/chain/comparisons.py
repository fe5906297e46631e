"""Digests of escrows that agreed with the chain: only pages that differ are asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import delete, insert, select

from coordinator.domain.canonical import canonical_json
from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database

# What the chain did and no event told of is found after so long at the latest.
VALID_SECONDS: Final = 7 * 86_400

_c = t.comparisons.c


class ComparisonBook:
    """Digests of the books' escrows, a page of them each, that agreed with the chain.

    Each is authenticated: with an edited one, what was changed in the books would not be found.
    """

    def __init__(self, database: Database, codes: RowCodes) -> None:
        self._database = database
        self._codes = codes

    def agreed(self, *, now: int) -> Mapping[int, str]:
        """By page, the digest of what agreed within the last week."""
        query = select(t.comparisons).where(_c.at > now - VALID_SECONDS, _c.at <= now)
        with self._database.read() as connection:
            proves = self._codes.prover(connection)
            return {
                row.page: row.digest
                for row in connection.execute(query)
                if proves(row.mac, "comparisons", [row.page, row.digest, row.at])
            }

    def store(self, pages: Mapping[int, str], *, now: int) -> None:
        """Note that these pages agreed."""
        rows = [
            {
                "page": page,
                "digest": digest,
                "at": now,
                "mac": self._codes.make("comparisons", [page, digest, now]),
            }
            for page, digest in pages.items()
        ]
        if not rows:
            return
        with self._database.write() as connection:
            for row in rows:
                connection.execute(delete(t.comparisons).where(_c.page == row["page"]))
            connection.execute(insert(t.comparisons), rows)

    def note_reconciliation(self, block_number: int, discrepancies: int, *, now: int) -> None:
        """Keep how many discrepancies the last comparison found, for monitoring."""
        row = {"block_number": block_number, "at": now, "discrepancies": discrepancies}
        with self._database.write() as connection:
            connection.execute(delete(t.last_reconciliation))
            connection.execute(insert(t.last_reconciliation).values(row))


def page_digest(rows: Sequence[Sequence[Any]]) -> str:
    """The SHA-256 of a page of escrows as the books have them."""
    return sha256(canonical_json(rows)).hexdigest()
