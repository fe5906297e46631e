"""What is laid over the policy file: grants, allocations, disabled agents. Rows are only added."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from coordinator.domain.limits import Scope, ScopeKind
from coordinator.domain.rules import Grant, Overlays
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger import schema as t


def read_overlays(connection: Connection) -> Overlays:
    """The overlays in force: what was withdrawn or replaced by a later row is left out."""
    rows = connection.execute(select(t.overlays).order_by(t.overlays.c.seq)).all()
    withdrawn = {row.withdrawn for row in rows if row.kind == "withdrawn"}
    grants: list[Grant] = []
    allocations: dict[Scope, dict[Window, Usdc]] = {}
    disabled: dict[str, bool] = {}
    for row in rows:
        if row.id in withdrawn or row.kind == "withdrawn":
            continue
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


def grant_of(row: Any) -> Grant:
    return Grant(row.id, _scope(row), Window(row.window), _amount(row), row.starts_at, row.ends_at)


def _scope(row: Any) -> Scope:
    return Scope(ScopeKind(row.scope_kind), row.scope_id)


def _amount(row: Any) -> Usdc:
    return Usdc.from_base_units(row.amount)
