"""Thousands of earlier purchases: rows of whole lives, copied from one that really was lived."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.events import EscrowState
from tests.integration.ledger.chain_feed import ChainFeed
from tests.integration.ledger.deciding import ask

# Each value that tells one life from another, by table; {n} is the copy's number.
_NEW = {
    "purchases": {
        "seq": "NULL",
        "id": "'pur_' || {n}",
        "idempotency_key": "'key-' || {n}",
        "escrow_key": "'0x' || {n}",
    },
    "idempotency_keys": {"idempotency_key": "'key-' || {n}", "purchase_id": "'pur_' || {n}"},
    "holds": {"id": "{first_hold} + {n}", "purchase_id": "'pur_' || {n}"},
    "approvals": {"id": "'apr_' || {n}", "purchase_id": "'pur_' || {n}"},
    "approval_decisions": {"approval_id": "'apr_' || {n}"},
    "escrows": {
        "seq": "NULL",
        "escrow_id": "'0x' || {n}",
        "escrow_key": "'0x' || {n}",
        "purchase_id": "'pur_' || {n}",
    },
    "journal": {"block_hash": "'0x' || {n}", "escrow_key": "'0x' || {n}"},
    "audit": {"seq": "NULL", "subject": "'pur_' || {n}"},
}
_OF = {
    "purchases": "id = :id",
    "idempotency_keys": "purchase_id = :id",
    "holds": "purchase_id = :id",
    "approvals": "purchase_id = :id",
    "approval_decisions": "approval_id = (SELECT id FROM approvals WHERE purchase_id = :id)",
    "escrows": "purchase_id = :id",
    "journal": "escrow_key = :key",
    "audit": "subject = :id",
}
# Every thousand purchases a new day.
_START = "CASE l.start WHEN 0 THEN 0 ELSE l.start - 86400 * (n / 1000) END"
_COUNTERS = f"""
    CREATE TEMP TABLE charged AS SELECT x.* FROM hold_charges x
        JOIN holds h ON h.id = x.hold_id WHERE h.purchase_id = (SELECT id FROM original);
    INSERT OR IGNORE INTO counters (scope_kind, scope_id, "window", start, held, spent)
        SELECT DISTINCT l.scope_kind, l.scope_id, l."window", {_START}, 0, 0
        FROM numbers, charged l;
    UPDATE holds SET charges = (
        SELECT json_group_array(c.id) FROM numbers, charged l JOIN counters c
        ON c.scope_kind = l.scope_kind AND c.scope_id = l.scope_id AND c."window" = l."window"
        AND c.start = {_START} WHERE n = CAST(substr(purchase_id, 5) AS INTEGER))
        WHERE purchase_id IN (SELECT 'pur_' || n FROM numbers);
    CREATE TEMP TABLE sums AS SELECT e.value AS id,
        sum(CASE h.status WHEN 'held' THEN h.amount ELSE 0 END) AS held, sum(h.posted) AS spent
        FROM holds h, json_each(h.charges) e GROUP BY 1;
    UPDATE counters SET held = sums.held, spent = sums.spent FROM sums WHERE sums.id = counters.id;
"""


def live_one(coordinator: Coordinator) -> str:
    """One purchase that was approved by people, funded, delivered, settled and posted; its id."""
    feed = ChainFeed(coordinator)
    feed.open("1000000")
    purchase = ask(coordinator.agent("ada"), "60.00")
    assert coordinator.approve(purchase.approval_id or "", approver="alice").done
    feed.fund(purchase)
    for state in (EscrowState.STARTED, EscrowState.DELIVERED):
        feed.move(purchase, state)
    feed.settle(purchase)
    assert feed.finalise() == 1
    return purchase.id


def copy_lives(path: Path, purchase_id: str, *, count: int, first: int = 1) -> None:
    """``count`` copies of the purchase with all their rows, and counters that agree with them.

    Only the audit log's hashes are not made anew.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        (key,) = connection.execute(
            "SELECT escrow_key FROM purchases WHERE id = ?", (purchase_id,)
        ).fetchone()
        (first_hold,) = connection.execute("SELECT max(id) FROM holds").fetchone()
        connection.execute("CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY)")
        connection.executemany(
            "INSERT INTO numbers VALUES (?)", ((n,) for n in range(first, first + count))
        )
        for table, new in _NEW.items():
            lived = f"CREATE TEMP TABLE lived AS SELECT * FROM {table} WHERE {_OF[table]}"
            connection.execute(lived, {"id": purchase_id, "key": key})
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(
                new.get(column, f'"{column}"').format(n="n", first_hold=first_hold - first + 1)
                for column in columns
            )
            connection.execute(f"INSERT INTO {table} SELECT {values} FROM numbers, lived")
            connection.execute("DROP TABLE lived")
        connection.execute("CREATE TEMP TABLE original AS SELECT ? AS id", (purchase_id,))
        connection.execute("COMMIT")
        connection.executescript(f"BEGIN; {_COUNTERS} COMMIT")
