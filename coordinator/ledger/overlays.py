"""What is laid over the policy file: grants, allocations, disabled agents. Rows are only added."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from coordinator.domain.limits import Scope, ScopeKind
from coordinator.domain.purchase import rfc3339
from coordinator.domain.rules import Grant, Overlays
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger import schema as t


def read_overlays(connection: Connection) -> Overlays:
    """The overlays in force: what was withdrawn or replaced by a later row is left out."""
    grants: list[Grant] = []
    allocations: dict[Scope, dict[Window, Usdc]] = {}
    disabled: dict[str, bool] = {}
    for row in _standing(connection):
        if row.kind in ("disabled", "enabled"):
            disabled[row.scope_id] = row.kind == "disabled"
        elif row.kind == "grant":
            grants.append(grant_of(row))
        else:
            allocations.setdefault(_scope(row), {})[Window(row.window)] = _amount(row)
    return Overlays(
        grants=tuple(grants),
        allocations=allocations,
        disabled=frozenset(agent for agent, off in disabled.items() if off),
    )


def overlay_rows(connection: Connection) -> list[dict[str, Any]]:
    """The same, each with its author and reason, as JSON shows it."""
    found: dict[tuple[Any, ...], Any] = {}
    for row in _standing(connection):
        switch = row.kind in ("disabled", "enabled")
        own = row.id if row.kind == "grant" else None
        found[own, switch, row.scope_kind, row.scope_id, row.window] = row
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "scope": f"agent:{row.scope_id}" if row.window is None else str(_scope(row)),
            "window": row.window,
            "amount": None if row.amount is None else str(_amount(row)),
            "starts_at": rfc3339(row.starts_at),
            "ends_at": rfc3339(row.ends_at),
            "author": row.author,
            "reason": row.reason,
        }
        for row in found.values()
        if row.kind != "enabled"
    ]


def _standing(connection: Connection) -> list[Any]:
    """The rows that nobody withdrew, oldest first."""
    rows = connection.execute(select(t.overlays).order_by(t.overlays.c.seq)).all()
    withdrawn = {row.withdrawn for row in rows if row.kind == "withdrawn"}
    return [row for row in rows if row.kind != "withdrawn" and row.id not in withdrawn]


def grant_of(row: Any) -> Grant:
    return Grant(row.id, _scope(row), Window(row.window), _amount(row), row.starts_at, row.ends_at)


def _scope(row: Any) -> Scope:
    return Scope(ScopeKind(row.scope_kind), row.scope_id)


def _amount(row: Any) -> Usdc:
    return Usdc.from_base_units(row.amount)
