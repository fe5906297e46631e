"""A past: any number of settled purchases, made of the rows of one that really was settled.

Each has all its rows in the tables that a decision reads or writes: the purchase, its key, its hold
with charges, its escrow and audit rows; the counters agree with the holds. Times, ids, keys,
agents, tasks and sessions differ as they would. The hashes of the audit log are random and chain
nothing, and the journal, which no decision looks at, knows none of it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import psycopg

from tests.benchmarks.course import (
    AGENTS,
    PURCHASES_PER_SESSION,
    PURCHASES_PER_TASK,
)
from tests.benchmarks.lived import Lived
from tests.benchmarks.past_counters import PastCounter, past_counters
from tests.integration.ledger.deciding import DAY, NOON
from tests.integration.stores import file_of, is_postgresql

SECONDS_BETWEEN: Final = 30
TELL_EVERY: Final = 100_000
# What differs from one purchase to the next; ``m`` is the new one, ``l`` the row of the lived one.
_NEW: Final[Mapping[str, Mapping[str, str]]] = {
    "purchases": {
        "seq": "m.n + 1",
        "id": "m.id",
        "agent": "m.agent",
        "idempotency_key": "m.key",
        "task": "m.task",
        "session": "m.session",
        "escrow_key": "m.escrow_key",
        "created_at": "m.at",
        "updated_at": "m.at + 20",
        "approved_at": "m.at",
        "ended_at_block": "CASE WHEN l.ended_at_block IS NULL THEN NULL ELSE m.n + 1000 END",
    },
    "idempotency_keys": {"agent": "m.agent", "idempotency_key": "m.key", "purchase_id": "m.id"},
    "holds": {
        "id": "m.n + 1",
        "purchase_id": "m.id",
        "placed_at": "m.at",
        "ended_at": "m.at + 20",
        "charges": "m.charges",
    },
    "escrows": {
        "seq": "m.n + 1",
        "escrow_id": "m.escrow_id",
        "escrow_key": "m.escrow_key",
        "purchase_id": "m.id",
        "created_at": "m.at",
        "last_block": "m.n + 1000",
    },
    "audit": {
        "seq": "{head} + m.n * {rows} + l.nth",
        "at": "m.at",
        "subject": "m.id",
        "hash": "{hash}",
    },
}


def fill(
    url: str,
    lived: Lived,
    count: int,
    *,
    until: float | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> int:
    """Put ``count`` purchases into a database that has none; fewer when ``until`` comes first.

    ``until`` is monotonic seconds: how much still fits is reckoned from the speed so far, the disk
    included.
    """
    filler = _Postgresql(url) if is_postgresql(url) else _Sqlite(url)
    with closing(filler):
        began = NOON - NOON % DAY - (count * SECONDS_BETWEEN // DAY + 1) * DAY
        counters = past_counters(lived.counters, count, SECONDS_BETWEEN)
        filler.stage(lived)
        done, step, started = 0, 2_000, time.monotonic()
        while done < count:
            if until is not None and done:
                now = time.monotonic()
                # The end costs something too: the counters, and the last pages.
                step = min(step, int(0.8 * (until - now) * done / (now - started)))
                if step < 500:
                    break
            before, done = done, min(done + step, count)
            filler.add(lived, counters, began, before, done)
            step = min(2 * step, 20_000)
            if done // TELL_EVERY > before // TELL_EVERY:
                tell(done)
        for counter in counters:
            filler.execute(counter.insert(done, began, lived.amount))
        filler.finish(done)
    return done


class _Filler:
    """SQL that both kinds of database take; what differs is said by each."""

    connection: Any
    mark: str

    def hex(self, length: int) -> str:
        """SQL of random hex digits."""
        raise NotImplementedError

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self.connection.execute(statement, values)

    def stage(self, lived: Lived) -> None:
        """Put the lived rows where they can be selected from."""
        for table, rows in lived.rows.items():
            self.execute(
                f"CREATE TEMP TABLE lived_{table} AS SELECT 0 AS nth, t.* FROM {table} t LIMIT 0"
            )
            for nth, row in enumerate(rows, start=1):
                names = ", ".join(["nth", *(f'"{name}"' for name in row)])
                marks = ", ".join([self.mark] * (len(row) + 1))
                values = (nth, *row.values())
                self.execute(f"INSERT INTO lived_{table} ({names}) VALUES ({marks})", values)
        (self.audit_head,) = self.execute("SELECT coalesce(max(seq), 0) FROM audit").fetchone()

    def add(
        self, lived: Lived, counters: Sequence[PastCounter], began: int, first: int, end: int
    ) -> None:
        """Add the purchases [first, end) in one transaction."""
        self.execute("BEGIN")
        self.execute(self._made(counters, began, first, end))
        for table, rows in lived.rows.items():
            terms = {"head": self.audit_head, "rows": len(rows), "hash": self.hex(64)}
            new = {name: sql.format(**terms) for name, sql in _NEW[table].items()}
            names = ", ".join(f'"{name}"' for name in rows[0])
            values = ", ".join(new.get(name, f'l."{name}"') for name in rows[0])
            # In the order of time, as they would have come.
            self.execute(
                f"INSERT INTO {table} ({names}) SELECT {values}"
                f" FROM made m CROSS JOIN lived_{table} l ORDER BY m.n, l.nth"
            )
        self.execute("DROP TABLE made")
        self.execute("COMMIT")
        self.sync()

    def _made(self, counters: Sequence[PastCounter], began: int, first: int, end: int) -> str:
        charges = " || ',' || ".join(f"({counter.id_of('n')})" for counter in counters)
        return f"""
            CREATE TEMP TABLE made AS
            WITH RECURSIVE numbers (n) AS (
                SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end}
            )
            SELECT n, {began} + n * {SECONDS_BETWEEN} AS at,
                'pur_' || {self.hex_of(f"{began} + n * {SECONDS_BETWEEN}")} || {self.hex(12)} AS id,
                'auto-' || {self.hex(32)} AS key,
                '0x' || {self.hex(64)} AS escrow_key,
                '0x' || {self.hex(64)} AS escrow_id,
                'a' || (n % {AGENTS}) AS agent,
                'task-' || (n / {PURCHASES_PER_TASK}) AS task,
                'session-' || (n / {PURCHASES_PER_SESSION}) AS session,
                '[' || {charges} || ']' AS charges
            FROM numbers
        """

    def hex_of(self, number: str) -> str:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError

    def finish(self, count: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.connection.close()


class _Sqlite(_Filler):
    mark = "?"

    def __init__(self, url: str) -> None:
        self._file = file_of(url)
        self.connection = sqlite3.connect(self._file, isolation_level=None)
        # A fill that is interrupted is thrown away: nothing needs to be undone.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
            self.execute(f"PRAGMA {setting}")
        self.execute("PRAGMA temp_store=MEMORY")

    def hex(self, length: int) -> str:
        return f"lower(hex(randomblob({length // 2})))"

    def hex_of(self, number: str) -> str:
        return f"printf('%08x', {number})"

    def sync(self) -> None:
        file = os.open(self._file, os.O_RDWR)
        os.fsync(file)
        os.close(file)

    def finish(self, count: int) -> None:
        self.execute("PRAGMA journal_mode=WAL")
        self.sync()


class _Postgresql(_Filler):
    mark = "%s"

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        # Neither triggers nor foreign keys: a million updates of one row of purchase_totals in few
        # transactions would take hours.
        self.execute("SET session_replication_role = replica")
        self.execute("SET synchronous_commit = off")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        # Without values nothing is a placeholder, as in n % 8.
        return self.connection.execute(statement, values or None)

    def hex(self, length: int) -> str:
        parts = " || ".join(["md5(random()::text)"] * -(-length // 32))
        return f"substr({parts}, 1, {length})"

    def hex_of(self, number: str) -> str:
        return f"lpad(to_hex({number}), 8, '0')"

    def sync(self) -> None:
        pass

    def finish(self, count: int) -> None:
        self.execute(
            # Of what is promised no more only the number counts.
            "INSERT INTO purchase_totals (status, count, amount) VALUES ('settled', %s, 0)",
            (count,),
        )
        for table, column in (
            ("purchases", "seq"),
            ("holds", "id"),
            ("escrows", "seq"),
            ("counters", "id"),
        ):
            newest = f'SELECT max("{column}") FROM {table}'
            self.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), ({newest}))"
            )
        # Else its own housekeeping would begin in the middle of a measurement.
        self.execute("VACUUM (ANALYZE)")
        self.execute("CHECKPOINT")
        os.sync()
