"""Rows of overlays: grants, allocations, disabled agents. Rows are only added."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from coordinator.domain.audit import AuditRow
from coordinator.domain.limits.limits import Scope, ScopeKind
from coordinator.domain.limits.overlay import Overlay
from coordinator.domain.limits.rules import Grant, Overlays
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.store import schema as t


def list_overlays(connection: Connection) -> Sequence[Overlay]:
    """The overlays in force and those that ended by time, oldest first.

    What was withdrawn, or replaced by a later row of its scope, is left out.
    """
    rows = connection.execute(select(t.overlays).order_by(t.overlays.c.seq)).all()
    withdrawn = {row.withdrawn for row in rows if row.kind == "withdrawn"}
    found: dict[Any, Overlay] = {}
    for row in rows:
        if row.kind == "withdrawn":
            continue
        overlay = _overlay(row)
        single = overlay.kind == "grant"
        able = overlay.kind in ("disabled", "enabled")
        key = overlay.id if single else (able, overlay.scope, overlay.window)
        found.pop(key, None)
        if row.id not in withdrawn:
            found[key] = overlay
    return [overlay for overlay in found.values() if overlay.kind != "enabled"]


def read_overlays(connection: Connection) -> Overlays:
    """Read the overlays that the rules are made of."""
    grants: list[Grant] = []
    allocations: dict[Scope, dict[Window, Usdc]] = {}
    disabled: set[str] = set()
    for one in list_overlays(connection):
        if one.kind == "disabled":
            disabled.add(one.scope.id)
            continue
        assert one.window is not None and one.amount is not None
        if one.kind == "grant":
            grant = Grant(one.id, one.scope, one.window, one.amount, one.starts_at, one.ends_at)
            grants.append(grant)
        else:
            allocations.setdefault(one.scope, {})[one.window] = one.amount
    return Overlays(tuple(grants), allocations, frozenset(disabled))


def insert_overlay(
    connection: Connection,
    kind: str,
    *,
    author: str,
    reason: str,
    starts_at: int,
    scope: Scope | None = None,
    window: Window | None = None,
    amount: Usdc | None = None,
    ends_at: int | None = None,
    increase_id: str | None = None,
    withdrawn: str | None = None,
    overlay_id: str | None = None,
) -> str:
    """Lay it over the policy from the next decision on; its id, a new one unless given."""
    overlay_id = overlay_id or "ovl_" + secrets.token_hex(10)
    values = {
        "id": overlay_id,
        "kind": kind,
        "scope_kind": scope.kind.value if scope else None,
        "scope_id": scope.id if scope else None,
        "window": window.value if window else None,
        "amount": amount.base_units if amount is not None else None,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "increase_id": increase_id,
        "withdrawn": withdrawn,
    }
    put_overlay(connection, values, author=author, reason=reason)
    return overlay_id


def put_overlay(
    connection: Connection, values: Mapping[str, Any], *, author: str, reason: str
) -> None:
    """Insert a row; one that has no id gets one."""
    made = {"id": "ovl_" + secrets.token_hex(10), **values, "author": author, "reason": reason}
    connection.execute(insert(t.overlays).values(**made))


def logged_overlays(row: AuditRow) -> Iterator[dict[str, Any]]:
    """The values of the rows that an audit row of an overlay tells; their ids where it names them.

    Who did it and why stands beside them.
    """
    body, at = row.body, {"starts_at": row.at}
    if row.event == "pool_shared":
        for agent, share in body["shares"].items():
            scope = Scope.pair(ScopeKind.POOL_AGENT, row.subject, agent)
            yield {
                "id": body["ids"][agent],
                "kind": "allocation",
                "scope_kind": scope.kind.value,
                "scope_id": scope.id,
                "window": body["window"],
                "amount": share,
                **at,
            }
    elif row.event == "limit_granted":
        scope = Scope.of(body["scope"])
        yield {
            "id": row.subject,
            "kind": "grant",
            "scope_kind": scope.kind.value,
            "scope_id": scope.id,
            "window": body["window"],
            "amount": body["amount"],
            "ends_at": body["ends_at"],
            "increase_id": body["of"],
            **at,
        }
    elif row.event == "overlay_withdrawn":
        yield {"kind": "withdrawn", "withdrawn": row.subject, **at}
    else:
        kind, agent = row.event.removeprefix("agent_"), ScopeKind.AGENT.value
        yield {"kind": kind, "scope_kind": agent, "scope_id": row.subject, **at}


def overlay_body(scope: Scope, window: Window, amount: Usdc) -> Mapping[str, Any]:
    """The particulars as the audit log keeps them."""
    return {"scope": str(scope), "window": window.value, "amount": amount.base_units}


def _overlay(row: Any) -> Overlay:
    return Overlay(
        id=row.id,
        kind=row.kind,
        scope=Scope(ScopeKind(row.scope_kind), row.scope_id),
        window=Window(row.window) if row.window else None,
        amount=Usdc.from_base_units(row.amount) if row.amount is not None else None,
        author=row.author,
        reason=row.reason,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        increase_id=row.increase_id,
    )
