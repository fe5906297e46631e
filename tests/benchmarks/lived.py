"""One purchase that really was lived, from the asking to the settling, as rows to copy."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.domain.chain.events import EscrowState
from tests.benchmarks.course import buy, course, prepare
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.stores import url_of

# Those that a decision reads or writes, and which of their rows are the purchase's.
_TABLES: Final = {
    "purchases": "id = ?",
    "idempotency_keys": "purchase_id = ?",
    "holds": "purchase_id = ?",
    "escrows": "purchase_id = ?",
    "audit": "subject = ?",
}


@dataclass(frozen=True, slots=True)
class Lived:
    """The rows of one purchase by table, and the counters that its hold charged, in their order."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    counters: Sequence[tuple[str, str, str]]

    @property
    def amount(self) -> int:
        return int(self.rows["purchases"][0]["amount"])


def live_one() -> Lived:
    """Buy once in a database of its own, and let the chain take it to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lived.db")
        prepare(url_of(path))
        with course(url_of(path)) as coordinator:
            feed = ChainFeed(coordinator)
            purchase = buy(coordinator.agent("a0"), "task", "session")
            feed.fund(purchase)
            for state in (EscrowState.STARTED, EscrowState.DELIVERED):
                feed.move(purchase, state)
            feed.settle(purchase, fee="0.01")
            feed.finalise()
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            rows = {
                table: [
                    dict(row)
                    for row in connection.execute(
                        f"SELECT * FROM {table} WHERE {of} ORDER BY 1", (purchase.id,)
                    )
                ]
                for table, of in _TABLES.items()
            }
            (hold,) = rows["holds"]
            charges = json.loads(hold["charges"])
            query = 'SELECT scope_kind, scope_id, "window" FROM counters WHERE id = ?'
            counters = [tuple(connection.execute(query, (id_,)).fetchone()) for id_ in charges]
        return Lived(rows, counters)
