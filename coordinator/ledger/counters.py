"""Counters and holds: what is reserved and spent, by scope and window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from coordinator.domain.errors import ImpossibleState
from coordinator.domain.limits import CounterKey, Scope, ScopeKind, Usage, Window
from coordinator.domain.usdc import Usdc
from coordinator.ledger import schema as t

_c = t.counters.c
# One statement, built once: building a larger one for each decision costs more than it saves.
_COUNTER: Final = select(_c.held, _c.spent).where(
    _c.scope_kind == bindparam("scope_kind"),
    _c.scope_id == bindparam("scope_id"),
    _c.window == bindparam("window"),
    _c.start == bindparam("start"),
)
# SQLAlchemy has no upsert for every dialect; SQLite and PostgreSQL read this one alike.
_CHARGE: Final = text(
    'INSERT INTO counters (scope_kind, scope_id, "window", start, held, spent)'
    " VALUES (:scope_kind, :scope_id, :window, :start, :held, :spent)"
    ' ON CONFLICT (scope_kind, scope_id, "window", start) DO UPDATE'
    " SET held = counters.held + excluded.held, spent = counters.spent + excluded.spent"
)


def read_usage(connection: Connection, keys: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
    """What the counters hold; one that was never charged is missing."""
    found = {}
    # Everybody goes through counters in one order.
    for key in sorted(keys):
        row = connection.execute(_COUNTER, _row(key)).one_or_none()
        if row is not None:
            found[key] = Usage(Usdc.from_base_units(row.held), Usdc.from_base_units(row.spent))
    return found


def place_hold(
    connection: Connection,
    *,
    purchase_id: str,
    kind: str,
    amount: Usdc,
    counters: Iterable[CounterKey],
    now: int,
) -> int:
    """Reserve ``amount`` in every counter; the hold's id."""
    made = connection.execute(
        insert(t.holds).values(
            kind=kind,
            purchase_id=purchase_id,
            amount=amount.base_units,
            status="held",
            posted=0,
            placed_at=now,
        )
    )
    assert made.inserted_primary_key is not None
    hold_id = int(made.inserted_primary_key[0])
    charge(connection, hold_id, counters, held=amount.base_units, spent=0)
    return hold_id


def charge(
    connection: Connection,
    hold_id: int,
    keys: Iterable[CounterKey],
    *,
    held: int,
    spent: int,
) -> None:
    """Note that the hold charges ``keys`` and add its amounts there."""
    rows = [_row(key) for key in sorted(keys)]
    if not rows:
        return
    connection.execute(insert(t.hold_charges), [{"hold_id": hold_id, **row} for row in rows])
    connection.execute(_CHARGE, [{**row, "held": held, "spent": spent} for row in rows])


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
    _change(connection, hold.id, held=-hold.amount, spent=0)
    connection.execute(delete(t.hold_charges).where(t.hold_charges.c.hold_id == hold.id))
    connection.execute(update(t.holds).where(t.holds.c.id == hold.id).values(placed_at=now))
    charge(connection, hold.id, counters, held=hold.amount, spent=0)


def end_hold(connection: Connection, purchase_id: str, kind: str, *, spent: Usdc, now: int) -> None:
    """Post ``spent`` (or void, when zero) in exactly the counters that were charged."""
    hold = _open_hold(connection, purchase_id, kind)
    _change(connection, hold.id, held=-hold.amount, spent=spent.base_units)
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
        _change(connection, hold.id, held=hold.amount, spent=-hold.posted)
    connection.execute(update(t.holds).where(*ended).values(status="held", posted=0, ended_at=None))
    return bool(holds)


def _open_hold(connection: Connection, purchase_id: str, kind: str):  # type: ignore[no-untyped-def]
    query = select(t.holds).where(t.holds.c.purchase_id == purchase_id, t.holds.c.kind == kind)
    hold = connection.execute(query).one_or_none()
    if hold is None or hold.status != "held":
        raise ImpossibleState(f"purchase {purchase_id} has no open {kind} hold to end")
    return hold


def _change(connection: Connection, hold_id: int, *, held: int, spent: int) -> None:
    c = t.hold_charges.c
    charges = (
        select(t.hold_charges)
        .where(c.hold_id == hold_id)
        .order_by(c.scope_kind, c.scope_id, c.window, c.start)
    )
    for row in connection.execute(charges).all():
        connection.execute(
            update(t.counters)
            .where(
                _c.scope_kind == row.scope_kind,
                _c.scope_id == row.scope_id,
                _c.window == row.window,
                _c.start == row.start,
            )
            .values(held=_c.held + held, spent=_c.spent + spent)
        )


def _row(key: CounterKey) -> dict[str, Any]:
    return {
        "scope_kind": key.scope.kind.value,
        "scope_id": key.scope.id,
        "window": key.window.value,
        "start": key.start,
    }
