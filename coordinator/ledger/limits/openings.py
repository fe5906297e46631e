"""Tasks and sessions that were opened by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, exists, insert, select, update

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.limits.rules import Opening
from coordinator.domain.limits.run import Run
from coordinator.domain.purchase.lifecycle import UNFUNDED, Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

_o, _p = t.openings.c, t.purchases.c
_OPENING: Final = Prepared(
    select(_o.agent, _o.limits, _o.status, _o.by_agent).where(
        _o.kind == bindparam("kind_"), _o.id == bindparam("id_")
    )
)


def read_opening(connection: Connection, kind: str, name: str) -> Opening | None:
    """The task or session, open or closed; None when nobody opened it by name."""
    row = _OPENING.one(connection, {"kind_": kind, "id_": name})
    if row is None:
        return None
    agent, limits, status, by_agent = row
    closed = status == "closed"
    return _opening(kind, name, agent, limits, closed=closed, by_agent=bool(by_agent))


def read_run(connection: Connection, kind: str, name: str) -> Run | None:
    """The task or session with who opened it; None when nobody opened it by name."""
    query = select(t.openings).where(_o.kind == kind, _o.id == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _run(row)


def list_runs(connection: Connection, kind: str, *, open_only: bool) -> Sequence[Run]:
    """Every task or session that was opened by name, oldest first."""
    query = select(t.openings).where(_o.kind == kind).order_by(_o.opened_at, _o.id)
    if open_only:
        query = query.where(_o.status == "open")
    return [_run(row) for row in connection.execute(query)]


def opened_windows(connection: Connection) -> set[Window]:
    """Return every window over which an open task or session has a limit of its own."""
    query = select(_o.limits).where(_o.status == "open").distinct()
    found: set[Window] = set()
    for stored in map(json.loads, connection.execute(query).scalars()):
        for amounts in (stored["limits"], *stored["categories"].values()):
            found |= {Window(window) for window in amounts}
    return found


def insert_opening(connection: Connection, opening: Opening, *, by: str, now: int) -> None:
    """Open it; InvalidRequest when it was opened before, whether or not it was closed since."""
    if read_opening(connection, opening.kind, opening.id) is not None:
        raise InvalidRequest(f"{opening.kind} {opening.id[:60]!r} was opened before")
    connection.execute(
        insert(t.openings).values(
            kind=opening.kind,
            id=opening.id,
            agent=opening.agent,
            limits=json.dumps(opening_row(opening)),
            status="open",
            opened_by=by,
            opened_at=now,
            by_agent=int(opening.by_agent),
        )
    )


def close_opening(connection: Connection, kind: str, name: str, *, by: str, now: int) -> None:
    """Close it: nothing is admitted in it any more."""
    connection.execute(
        update(t.openings)
        .where(_o.kind == kind, _o.id == name)
        .values(status="closed", closed_by=by, closed_at=now)
    )


def unsigned_of_run(connection: Connection, kind: str, name: str) -> Sequence[str]:
    """Purchases of the task or session that wait or are approved and have nothing signed."""
    column = _p.task if kind == "task" else _p.session
    stepped = exists().where(t.steps.c.purchase_id == _p.id)
    a = t.authorisations.c
    signed = exists().where(a.purchase_id == _p.id, a.signature.is_not(None))
    query = select(_p.id).where(
        column == name, _p.status.in_([status.value for status in UNFUNDED]), ~stepped, ~signed
    )
    return list(connection.execute(query.order_by(_p.seq)).scalars())


def used_by_others(connection: Connection, opening: Opening) -> bool:
    """Whether another agent than the opening's has bought or held something in it."""
    k = t.costs.c
    bought, held = (_p.task, k.task) if opening.kind == "task" else (_p.session, k.session)
    purchases = exists().where(
        bought == opening.id, _p.agent != opening.agent, _p.status != Status.DENIED.value
    )
    costs = exists().where(held == opening.id, k.agent != opening.agent)
    return bool(connection.execute(select(purchases | costs)).scalar())


def opening_row(opening: Opening) -> dict[str, Any]:
    """Its limits as the database and the audit log keep them: base units by window."""
    return {
        "limits": _units(opening.limits),
        "categories": {name: _units(said) for name, said in opening.categories.items()},
    }


def closed_reason(kind: str, name: str, by: str) -> Reason:
    """Return the reason for a purchase that waited when its task or session was closed."""
    return Reason(ReasonCode(f"{kind}_closed"), f"{kind} {name} was closed by {by}")


def _run(row: Row[Any]) -> Run:
    closed, by_agent = row.status == "closed", bool(row.by_agent)
    opening = _opening(row.kind, row.id, row.agent, row.limits, closed=closed, by_agent=by_agent)
    return Run(opening, row.opened_by, row.opened_at, row.closed_by, row.closed_at)


def _opening(
    kind: str, name: str, agent: str | None, limits: str, *, closed: bool, by_agent: bool
) -> Opening:
    stored = json.loads(limits)
    return Opening(
        kind=kind,
        id=name,
        agent=agent,
        limits=_amounts(stored["limits"]),
        categories={name: _amounts(said) for name, said in stored["categories"].items()},
        closed=closed,
        by_agent=by_agent,
    )


def _units(amounts: Mapping[Window, Usdc]) -> dict[str, int]:
    return {window.value: amount.base_units for window, amount in amounts.items()}


def _amounts(stored: dict[str, Any]) -> dict[Window, Usdc]:
    return {Window(window): Usdc.from_base_units(amount) for window, amount in stored.items()}
