"""Counters: what is reserved and spent, by scope and window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind, Usage
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import ROLLING, Window
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import OR_FAIL, Prepared, send

_c = t.counters.c
_SCOPED: Final = (
    _c.scope_kind == bindparam("scope_kind"),
    _c.scope_id == bindparam("scope_id"),
    _c.window == bindparam("window_"),
)
_BY_KEY: Final = Prepared(
    select(_c.id, _c.held, _c.spent).where(*_SCOPED, _c.start == bindparam("start_"))
)
_BUCKETS: Final = Prepared(
    select(_c.start, _c.id, _c.held, _c.spent).where(*_SCOPED, _c.start >= bindparam("start_"))
)
_MAKE: Final = Prepared(
    insert(t.counters).returning(_c.id),
    "scope_kind",
    "scope_id",
    "window",
    "start",
    "held",
    "spent",
)
_COLUMNS: Final = 'id, held, spent, scope_kind, scope_id, "window", start'
_WRITE_SQLITE: Final = (
    f"UPDATE {OR_FAIL} counters SET held = v.column2, spent = v.column3"
    " FROM (VALUES {rows}) AS v WHERE counters.id = v.column1"
)
# Three texts, for PostgreSQL takes longer to read a statement with many values than to run it.
_WRITE_POSTGRESQL: Final = (
    "UPDATE counters SET held = v.held, spent = v.spent"
    " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS v (id, held, spent)"
    " WHERE counters.id = v.id"
)
_CHANGED_MAX: Final = 64
# 10^12 USDC in base units: more than there is, and far below what 64 bits hold.
COUNTED_MAX: Final = 10**18


class CounterSheet:
    """Counters as transactions see and change them: each is read once and written once in each.

    ``connection`` is the transaction at hand; where another follows it, nobody else may have
    changed counters in between. ``ids`` remembers which counter has which id, whoever changes
    them; what a transaction made is in ``made`` until it has committed.
    """

    def __init__(self, connection: Connection, ids: dict[CounterKey, int] | None = None) -> None:
        self.connection = connection
        self._ids = ids if ids is not None else {}
        self.made: dict[CounterKey, int] = {}
        # Each is [id, held, spent], one list for a counter however it was found.
        self._by_id: dict[int, list[int]] = {}
        # None where there is no such counter.
        self._rows: dict[CounterKey, list[int] | None] = {}
        # From the start on that was asked for first.
        self._buckets: dict[tuple[Scope, Window], tuple[int, dict[int, list[int]]]] = {}
        self._changed: dict[int, list[int]] = {}

    def usage(self, keys: Iterable[CounterKey]) -> dict[CounterKey, Usage]:
        """Return the sums of the counters; one that was never charged is missing.

        Of a rolling window it is the sum of the buckets from the key's start on.
        """
        keys = list(keys)
        self._load(key for key in keys if key.window not in ROLLING)
        found = {}
        for key in keys:
            if key.window in ROLLING:
                found[key] = self._rolling(key)
            elif (row := self._rows[key]) is not None:
                found[key] = Usage(row[1], row[2])
        return found

    def charge(self, keys: Iterable[CounterKey], *, held: int, spent: int) -> list[int]:
        """Add to each counter, making those that are missing; their ids."""
        keys = list(keys)
        self._load(keys)
        return self._charge(keys, held, spent)

    def charge_request(self, keys: Iterable[CounterKey], *, held: int, spent: int) -> list[int]:
        """Do as ``charge`` does for what somebody asks, whose sum nothing else may bound.

        InvalidRequest, and no counter is changed, when one would come above ``COUNTED_MAX``.
        """
        keys = list(keys)
        self._load(keys)
        _require_room((self._rows[key] for key in keys), held + spent)
        return self._charge(keys, held, spent)

    def change(self, ids: Sequence[int], *, held: int, spent: int) -> None:
        """Add to the counters that a hold charged; InvalidRequest as of ``charge_request``."""
        rows = self._charged(ids)
        if held + spent > 0:
            _require_room(rows, held + spent)
        self._add(rows, held, spent)

    def add(self, ids: Sequence[int], *, held: int, spent: int) -> None:
        """Add to the counters that a hold charged what the chain says, whatever they come to."""
        self._add(self._charged(ids), held, spent)

    def _charged(self, ids: Sequence[int]) -> list[list[int]]:
        unread = [id_ for id_ in ids if id_ not in self._by_id]
        for found in _by_ids(self.connection, unread) if unread else ():
            self._tracked(found)
        return [self._by_id[id_] for id_ in ids]

    def _charge(self, keys: Sequence[CounterKey], held: int, spent: int) -> list[int]:
        return self._add([self._rows[key] or self._make(key) for key in keys], held, spent)

    def _add(self, rows: Iterable[list[int]], held: int, spent: int) -> list[int]:
        ids = []
        for row in rows:
            row[1] += held
            row[2] += spent
            self._changed[row[0]] = row
            ids.append(row[0])
        return ids

    def flush(self) -> None:
        """Write what changed."""
        if not self._changed:
            return
        changed = list(self._changed.values())
        self._changed.clear()
        if self.connection.dialect.name != "sqlite":
            columns = zip(*changed, strict=True)
            texts = [f"{{{','.join(map(str, column))}}}" for column in columns]
            send(self.connection, _WRITE_POSTGRESQL, texts)
            return
        for done in range(0, len(changed), _CHANGED_MAX):
            part = changed[done : done + _CHANGED_MAX]
            send(self.connection, _write_sqlite(len(part)), tuple(chain(*part)))

    @property
    def size(self) -> int:
        """Return the number of counters it remembers."""
        return len(self._rows)

    def forget(self) -> None:
        """Read everything anew: somebody else in this transaction changes counters."""
        self.flush()
        self._by_id.clear()
        self._rows.clear()
        self._buckets.clear()

    def _load(self, keys: Iterable[CounterKey]) -> None:
        unread = [key for key in keys if key not in self._rows]
        ids = [id_ for key in unread if (id_ := self._ids.get(key)) is not None]
        if ids:
            # By what the row says: after a database was restored under this process an id may be
            # another's.
            for *row, kind, of, window, start in _by_ids(self.connection, ids):
                key = CounterKey(Scope(ScopeKind(kind), of), Window(window), start)
                self._rows[key] = self._tracked(row)
        for key in unread:
            if key not in self._rows:
                self._look_up(key)

    def _look_up(self, key: CounterKey) -> None:
        row = _BY_KEY.one(self.connection, _where(key))
        self._rows[key] = self._tracked(row) if row is not None else None
        if row is not None:
            self.made[key] = row[0]
        else:
            self._ids.pop(key, None)

    def _tracked(self, row: Sequence[int]) -> list[int]:
        """The counter's own list; one that was changed already stands before what SQL says."""
        return self._by_id.setdefault(row[0], list(row[:3]))

    def _make(self, key: CounterKey) -> list[int]:
        values = _where(key) | {"held": 0, "spent": 0}
        made = _MAKE.one(self.connection, values)
        assert made is not None
        row = self._tracked([int(made[0]), 0, 0])
        self._rows[key] = row
        self.made[key] = row[0]
        buckets = self._buckets.get((key.scope, key.window))
        if buckets is not None:
            buckets[1][key.start] = row
        return row

    def _rolling(self, key: CounterKey) -> Usage:
        since, buckets = self._buckets.get((key.scope, key.window), (None, {}))
        if since is None or key.start < since:
            self._buckets[key.scope, key.window] = key.start, buckets
            for start, *row in _BUCKETS.rows(self.connection, _where(key)):
                buckets[start] = self._rows[key._replace(start=start)] = self._tracked(row)
        counted = [row for start, row in buckets.items() if start >= key.start]
        return Usage(sum(row[1] for row in counted), sum(row[2] for row in counted))


@cache
def _write_sqlite(count: int) -> str:
    return _WRITE_SQLITE.format(rows=", ".join(["(?, ?, ?)"] * count))


def _by_ids(connection: Connection, ids: Sequence[int]) -> Sequence[Sequence[Any]]:
    mark = _mark(connection)
    marks = ", ".join([mark] * len(ids))
    text = f"SELECT {_COLUMNS} FROM counters WHERE id IN ({marks})"
    raw: Any = connection.connection.dbapi_connection
    found: Sequence[Sequence[Any]] = raw.execute(text, tuple(ids)).fetchall()
    return found


def _require_room(rows: Iterable[list[int] | None], more: int) -> None:
    for row in rows:
        counted = row[1] + row[2] if row is not None else 0
        if counted + more > COUNTED_MAX:
            most = Usdc.from_base_units(COUNTED_MAX)
            raise InvalidRequest(
                f"with this, more than {most} USDC would be counted together",
                code="invalid_amount",
            )


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.name == "sqlite" else "%s"


def read_usage(connection: Connection, keys: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
    """Return the sums of the counters; one that was never charged is missing."""
    return CounterSheet(connection).usage(keys)


def charges_of(connection: Connection, purchase_id: str, kind: str) -> tuple[CounterKey, ...]:
    """The counters that the purchase's hold charged."""
    query = (
        select(t.hold_charges)
        .join(t.holds, t.holds.c.id == t.hold_charges.c.hold_id)
        .where(t.holds.c.purchase_id == purchase_id, t.holds.c.kind == kind)
    )
    return tuple(
        CounterKey(Scope(ScopeKind(r.scope_kind), r.scope_id), Window(r.window), r.start)
        for r in connection.execute(query)
    )


def _where(key: CounterKey) -> dict[str, Any]:
    scope, window = key.scope, key.window.value
    return {
        "scope_kind": scope.kind.value,
        "scope_id": scope.id,
        "window": window,
        "window_": window,
        "start": key.start,
        "start_": key.start,
    }
