"""Rows that somebody edits with SQL, without any key, and an operator who puts them back later."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coordinator.chain.simulated import genesis

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

THIEF: Final = genesis.ACCOUNTS[6]
_UNSIGNED: Final = (
    "status IN ('approved', 'awaiting_approval')"
    " AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.purchase_id = p.id)"
)
_KEYS: Final = {"purchases": "id", "policies": "version"}


class _Edit(NamedTuple):
    """An edited row: the query that finds it as long as it stands, and what takes it back."""

    query: str
    undo: str
    was: tuple[Any, ...]
    place: tuple[Any, ...]


class Tampering:
    """Edits of the database's file, each with the statement that takes it back."""

    def __init__(self, simulation: Simulation) -> None:
        self._s = simulation
        self._edits: list[_Edit] = []
        self.ever = False

    def strike(self) -> None:
        """Edit what there is of one kind; nothing happens where there is none."""
        kinds: tuple[Callable[[], bool], ...] = (
            self._approve,
            self._redirect,
            self._raise_amount,
            self._raise_limits,
            self._order,
        )
        if self._s.rng.choice(kinds)():
            self.ever = True
            self._s.faults.struck["rows_tampered"] += 1

    def take_back(self) -> None:
        """Put every row back as it was, unless the program has moved it meanwhile."""
        while self._edits:
            edit = self._edits.pop()
            self._run(edit.undo, (*edit.was, *edit.place))

    @property
    def stands(self) -> bool:
        """Whether a row is still as it was edited."""
        return any(self._s.invariants.rows(edit.query, *edit.place) for edit in self._edits)

    def _approve(self) -> bool:
        """What waits for people is made to look approved."""
        found = self._one("SELECT id FROM purchases WHERE status = 'awaiting_approval'")
        if found is None:
            return False
        place = (*found, self._s.time.clock())
        self._run(
            "UPDATE purchases SET status = 'approved', approved_at = ? WHERE id = ?", place[::-1]
        )
        where = "WHERE id = ? AND approved_at = ?"
        # Nobody may have acted on it, and its time may have passed meanwhile.
        status = "CASE status WHEN 'approved' THEN 'awaiting_approval' ELSE status END"
        undo = f"UPDATE purchases SET approved_at = NULL, status = {status} {where}"
        self._edits.append(_Edit(f"SELECT 1 FROM purchases {where}", undo, (), place))
        return True

    def _redirect(self) -> bool:
        """Somebody else is to be paid."""
        found = self._one(
            f"SELECT id, provider FROM purchases p WHERE {_UNSIGNED} AND provider <> ?", THIEF
        )
        return found is not None and self._edit(
            "purchases", found[:1], {"provider": found[1]}, {"provider": THIEF}
        )

    def _raise_amount(self) -> bool:
        """More is to be paid."""
        found = self._one(f"SELECT id, amount FROM purchases p WHERE {_UNSIGNED}")
        return found is not None and self._edit(
            "purchases", found[:1], {"amount": found[1]}, {"amount": found[1] + 7_000_000}
        )

    def _raise_limits(self) -> bool:
        """Agents may spend what they like, by the policy in force."""
        found = self._one("SELECT version, document FROM policies ORDER BY version DESC LIMIT 1")
        if found is None:
            return False
        document = json.loads(found[1])
        for agent in document["agents"].values():
            agent |= {name: "100000" for name in agent if name.endswith(("limit", "threshold"))}
        edited = json.dumps(document)
        return self._edit("policies", found[:1], {"document": found[1]}, {"document": edited})

    def _order(self) -> bool:
        """A withdrawal that nobody ordered."""
        order_id = f"wdr_{self._s.rng.getrandbits(64):016x}"
        self._run(
            "INSERT INTO orders (id, kind, recipient, amount, by, reason, status, created_at)"
            " VALUES (?, 'withdraw', ?, 5000000, 'alice', 'rent', 'approved', ?)",
            (order_id, THIEF, self._s.time.clock()),
        )
        where = "FROM orders WHERE id = ?"
        self._edits.append(_Edit(f"SELECT 1 {where}", f"DELETE {where}", (), (order_id,)))
        return True

    def _edit(
        self, table: str, key: tuple[Any, ...], was: dict[str, Any], becomes: dict[str, Any]
    ) -> bool:
        (column, value), *_ = becomes.items()
        where = f"{_KEYS[table]} = ? AND {column} = ?"
        place = (*key, value)
        self._run(_update(table, becomes, f"{_KEYS[table]} = ?"), (*becomes.values(), *key))
        self._edits.append(
            _Edit(
                f"SELECT 1 FROM {table} WHERE {where}",
                _update(table, was, where),
                tuple(was.values()),
                place,
            )
        )
        return True

    def _one(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        rows = self._s.invariants.rows(query, *values)
        return self._s.rng.choice(rows) if rows else None

    def _run(self, statement: str, values: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(self._s.database, isolation_level=None)) as connection:
            connection.execute(statement, values)


def _update(table: str, values: dict[str, Any], where: str) -> str:
    columns = ", ".join(f"{name} = ?" for name in values)
    return f"UPDATE {table} SET {columns} WHERE {where}"
