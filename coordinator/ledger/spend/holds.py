"""Holds: each reserves an amount in the counters that it charges, until it is posted or voided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import insert, select, update

from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.limits.limits import CounterKey
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

_h = t.holds.c
_HOLD: Final = Prepared(
    insert(t.holds),
    *("kind", "purchase_id", "cost_id", "amount", "status", "posted", "placed_at", "ended_at"),
    *("charges", "by_owner"),
)


def place_hold(
    tx: Tx,
    kind: str,
    amount: Usdc,
    charges: Sequence[int],
    *,
    placed_at: int,
    purchase_id: str | None = None,
    cost_id: str | None = None,
    status: str = "held",
    posted: int = 0,
    ended_at: int | None = None,
    by_owner: bool = True,
) -> None:
    """Write a hold of one purchase or cost; ``charges`` are the ids of the counters it is in."""
    tx.insert_dependent(
        _HOLD,
        {
            "kind": kind,
            "purchase_id": purchase_id,
            "cost_id": cost_id,
            "amount": amount.base_units,
            "status": status,
            "posted": posted,
            "placed_at": placed_at,
            "ended_at": ended_at,
            "charges": canonical_json(charges).decode(),
            "by_owner": int(by_owner),
        },
    )


def charge_hold(tx: Tx, hold_id: int, counters: Iterable[CounterKey]) -> None:
    """Charge the hold, as it is, to ``counters`` that it has not charged yet."""
    hold = tx.connection.execute(select(t.holds).where(_h.id == hold_id)).one()
    held = hold.amount if hold.status == "held" else 0
    charges = tx.sheet.charge(counters, held=held, spent=hold.posted)
    tx.connection.execute(
        update(t.holds)
        .where(_h.id == hold_id)
        .values(charges=json.dumps(json.loads(hold.charges) + charges))
    )


def move_hold(tx: Tx, purchase_id: str, counters: Iterable[CounterKey], now: int) -> None:
    """Take the purchase's hold out of its counters and put it into ``counters``."""
    hold = _open_hold(tx, purchase_id, "purchase")
    tx.sheet.add(json.loads(hold.charges), held=-hold.amount, spent=0)
    charges = tx.sheet.charge(counters, held=hold.amount, spent=0)
    tx.connection.execute(
        update(t.holds).where(_h.id == hold.id).values(placed_at=now, charges=json.dumps(charges))
    )


def end_hold(tx: Tx, purchase_id: str, kind: str, *, spent: Usdc, now: int) -> None:
    """Post ``spent`` (or void, when zero) in exactly the counters that were charged."""
    hold = _open_hold(tx, purchase_id, kind)
    tx.sheet.add(json.loads(hold.charges), held=-hold.amount, spent=spent.base_units)
    tx.connection.execute(
        update(t.holds)
        .where(_h.id == hold.id, _h.status == "held")
        .values(status="posted" if spent else "voided", posted=spent.base_units, ended_at=now)
    )


def reopen_holds(tx: Tx, purchase_id: str) -> bool:
    """Hold again, in the counters that were charged, what the purchase's ended holds held.

    False when none of its holds had ended.
    """
    tx.flush()
    ended = (_h.purchase_id == purchase_id, _h.status != "held")
    holds = tx.connection.execute(select(t.holds).where(*ended)).all()
    for hold in holds:
        tx.sheet.add(json.loads(hold.charges), held=hold.amount, spent=-hold.posted)
    tx.connection.execute(
        update(t.holds).where(*ended).values(status="held", posted=0, ended_at=None)
    )
    return bool(holds)


def _open_hold(tx: Tx, purchase_id: str, kind: str) -> Any:
    tx.flush()
    query = select(t.holds).where(_h.purchase_id == purchase_id, _h.kind == kind)
    hold = tx.connection.execute(query).one_or_none()
    if hold is None or hold.status != "held":
        raise ImpossibleState(f"purchase {purchase_id} has no open {kind} hold to end")
    return hold
