"""Digests of the journal that the audit log keeps, and the check of one by the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, select

from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain.journal import Entry
from coordinator.ledger.store import schema as t

_j = t.journal.c
_COLUMNS = (
    _j.block_number,
    _j.block_hash,
    _j.log_index,
    _j.tx_hash,
    _j.at,
    _j.kind,
    _j.debit,
    _j.credit,
    _j.amount,
    _j.escrow_key,
)


def block_digests(entries: Iterable[Entry]) -> dict[str, list[int | str]]:
    """By block number: how many entries it has, and their SHA-256 in order of log index."""
    rows = [
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
    return {
        str(number): [len(part), _digest(part)]
        for number, group in groupby(rows, key=lambda row: row[0])
        for part in [list(group)]
    }


@dataclass(slots=True)
class JournalProof:
    """The journal as the audit log proves it; fed with the log's rows in order."""

    blocks: dict[int, tuple[int, str]] = field(default_factory=dict)

    def written(self, body: dict[str, Any]) -> None:
        """A batch was written."""
        for number, (count, digest) in body["blocks"].items():
            self.blocks[int(number)] = (count, digest)

    def rolled_back(self, body: dict[str, Any]) -> None:
        """Everything above a block was taken out."""
        for number in [number for number in self.blocks if number > body["to"]]:
            del self.blocks[number]

    def faults(self, connection: Connection) -> Iterator[str]:
        """Every block whose entries are not the ones that the log knows, and entries beyond."""
        for number, (count, digest) in self.blocks.items():
            rows = _rows(connection, number)
            if _digest_or_none(rows) != digest:
                yield (
                    f"the journal of block {number} was changed: {len(rows)} entries stand where"
                    f" {count} were written"
                )
        logged = sum(count for count, _ in self.blocks.values())
        total = connection.execute(select(func.count()).select_from(t.journal)).scalar_one()
        if total != logged:
            yield f"the journal has {total} entries and the log knows of {logged}"


def _rows(connection: Connection, block: int) -> list[tuple[Any, ...]]:
    query = select(*_COLUMNS).where(_j.block_number == block).order_by(_j.log_index)
    return [tuple(row) for row in connection.execute(query)]


def _digest_or_none(rows: list[tuple[Any, ...]]) -> str | None:
    try:
        return _digest(rows)
    except (TypeError, ValueError):
        # SQLite keeps any type in any column.
        return None


def _digest(rows: list[tuple[Any, ...]]) -> str:
    return sha256(canonical_json([list(row) for row in rows])).hexdigest()
