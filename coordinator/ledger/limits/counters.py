"""Counters and holds: what is reserved and spent, by scope and window."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from coordinator.domain.errors import ImpossibleState, InvalidRequest
from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind, Usage
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import ROLLING, Window
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared, in_powers_of_two

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
_ADD: Final = Prepared(
    update(t.counters)
    .where(_c.id == bindparam("id_"))
    .values(held=_c.held + bindparam("held_"), spent=_c.spent + bindparam("spent_"))
)
_COLUMNS: Final = 'id, held, spent, scope_kind, scope_id, "window", start'
# Both kinds of database name the columns of VALUES like this.
_WRITE: Final = (
    "UPDATE counters SET held = v.column2, spent = v.column3"
    " FROM (VALUES {rows}) AS v WHERE counters.id = v.column1"
)
# psycopg remembers no text of more than 50 values.
_CHANGED_MAX: Final = 16
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
        unread = [id_ for id_ in ids if id_ not in self._by_id]
        for found in _by_ids(self.connection, unread) if unread else ():
            self._tracked(found)
        rows = [self._by_id[id_] for id_ in ids]
        if held + spent > 0:
            _require_room(rows, held + spent)
        self._add(rows, held, spent)

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
        mark = _mark(self.connection)
        raw: Any = self.connection.connection.dbapi_connection
        for part in in_powers_of_two(changed, most=_CHANGED_MAX):
            rows = ", ".join([f"({mark}, {mark}, {mark})"] * len(part))
            raw.execute(_WRITE.format(rows=rows), tuple(chain(*part)))

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


def place_hold(
    connection: Connection,
    *,
    purchase_id: str,
    kind: str,
    amount: Usdc,
    counters: Iterable[CounterKey],
    now: int,
) -> None:
    """Reserve ``amount`` in every counter."""
    charges = _charge(connection, counters, held=amount.base_units, spent=0)
    connection.execute(
        insert(t.holds).values(
            kind=kind,
            purchase_id=purchase_id,
            amount=amount.base_units,
            status="held",
            posted=0,
            placed_at=now,
            charges=json.dumps(charges),
        )
    )


def charge_hold(connection: Connection, hold_id: int, counters: Iterable[CounterKey]) -> None:
    """Charge the hold, as it is, to ``counters`` that it has not charged yet."""
    hold = connection.execute(select(t.holds).where(t.holds.c.id == hold_id)).one()
    held = hold.amount if hold.status == "held" else 0
    charges = _charge(connection, counters, held=held, spent=hold.posted)
    connection.execute(
        update(t.holds)
        .where(t.holds.c.id == hold_id)
        .values(charges=json.dumps(json.loads(hold.charges) + charges))
    )


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


def move_hold(
    connection: Connection, purchase_id: str, counters: Iterable[CounterKey], now: int
) -> None:
    """Take the purchase's hold out of its counters and put it into ``counters``."""
    hold = _open_hold(connection, purchase_id, "purchase")
    change_counters(connection, hold.charges, held=-hold.amount, spent=0)
    charges = _charge(connection, counters, held=hold.amount, spent=0)
    connection.execute(
        update(t.holds)
        .where(t.holds.c.id == hold.id)
        .values(placed_at=now, charges=json.dumps(charges))
    )


def end_hold(connection: Connection, purchase_id: str, kind: str, *, spent: Usdc, now: int) -> None:
    """Post ``spent`` (or void, when zero) in exactly the counters that were charged."""
    hold = _open_hold(connection, purchase_id, kind)
    change_counters(connection, hold.charges, held=-hold.amount, spent=spent.base_units)
    connection.execute(
        update(t.holds)
        .where(t.holds.c.id == hold.id, t.holds.c.status == "held")
        .values(status="posted" if spent else "voided", posted=spent.base_units, ended_at=now)
    )


def reopen_holds(connection: Connection, purchase_id: str) -> bool:
    """Hold again, in the counters that were charged, what the purchase's ended holds held.

    False when none of its holds had ended.
    """
    ended = (t.holds.c.purchase_id == purchase_id, t.holds.c.status != "held")
    holds = connection.execute(select(t.holds).where(*ended)).all()
    for hold in holds:
        change_counters(connection, hold.charges, held=hold.amount, spent=-hold.posted)
    connection.execute(update(t.holds).where(*ended).values(status="held", posted=0, ended_at=None))
    return bool(holds)


def change_counters(connection: Connection, charges: str, *, held: int, spent: int) -> None:
    """Add to the counters that a hold's ``charges`` name."""
    rows = [{"id_": id_, "held_": held, "spent_": spent} for id_ in json.loads(charges)]
    _ADD.each(connection, rows)


def _charge(
    connection: Connection, counters: Iterable[CounterKey], *, held: int, spent: int
) -> list[int]:
    sheet = CounterSheet(connection)
    charges = sheet.charge(counters, held=held, spent=spent)
    sheet.flush()
    return charges


def _open_hold(connection: Connection, purchase_id: str, kind: str):  # type: ignore[no-untyped-def]
    query = select(t.holds).where(t.holds.c.purchase_id == purchase_id, t.holds.c.kind == kind)
    hold = connection.execute(query).one_or_none()
    if hold is None or hold.status != "held":
        raise ImpossibleState(f"purchase {purchase_id} has no open {kind} hold to end")
    return hold


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
