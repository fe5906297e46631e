"""Requests for more as they are read, and the notices of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from coordinator.domain.errors import UnknownId
from coordinator.domain.limits.increase import Increase, IncreaseStatus
from coordinator.domain.limits.limits import Scope, ScopeKind
from coordinator.domain.notices import Notice, Severity, limits_changed
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.store import schema as t

_i: Final = t.increases.c


def get_increase(connection: Connection, increase_id: str) -> Increase:
    """Return the request; UnknownId when there is none."""
    row = connection.execute(select(t.increases).where(_i.id == increase_id)).one_or_none()
    if row is None:
        raise UnknownId(f"there is no request {increase_id[:60]!r}")
    return read_increases(connection, [row])[0]


def read_increases(connection: Connection, rows: Sequence[Any]) -> Sequence[Increase]:
    """Return whole requests, in the order of their rows, in two queries."""
    d, o = t.increase_decisions.c, t.overlays.c
    ids = [row.id for row in rows]
    approved: dict[str, list[str]] = defaultdict(list)
    query = select(d.increase_id, d.approver).where(
        d.increase_id.in_(ids), d.decision == "approved"
    )
    for increase_id, approver in connection.execute(query):
        approved[increase_id].append(approver)
    granted = [row.overlay_id for row in rows if row.overlay_id is not None]
    overlays = {
        overlay_id: (ends_at, amount)
        for overlay_id, ends_at, amount in connection.execute(
            select(o.id, o.ends_at, o.amount).where(o.id.in_(granted))
        )
    }
    return [
        _whole(row, approved[row.id], *overlays.get(row.overlay_id, (None, row.amount)))
        for row in rows
    ]


def _whole(row: Any, approved: Sequence[str], ends_at: int | None, amount: int) -> Increase:
    return Increase(
        id=row.id,
        kind=row.kind,
        agent=row.agent,
        scope=Scope(ScopeKind(row.scope_kind), row.scope_id),
        window=Window(row.window),
        amount=Usdc.from_base_units(amount),
        lasts_seconds=row.lasts_seconds,
        why=row.reason,
        status=IncreaseStatus(row.status),
        required=row.required,
        created_at=row.created_at,
        expires_at=row.expires_at,
        approved_by=tuple(sorted(approved)),
        ends_at=ends_at,
    )


def waits(asked: Increase) -> Notice:
    """Make the notice of a request that waits for approvers."""
    return Notice(
        key=f"waiting:{asked.id}",
        at=asked.created_at,
        kind="approval_waits",
        severity=Severity.WARNING,
        subject=asked.id,
        message=(
            f"{asked.agent} asks to raise the limit of {asked.scope} by {asked.amount} USDC"
            f" {asked.window.words}"
        ),
        fields=_fields(asked, asked.amount),
    )


def _fields(increase: Increase, amount: Usdc) -> dict[str, str]:
    return {
        "increase_id": increase.id,
        "agent": increase.agent,
        "scope": str(increase.scope),
        "window": increase.window.value,
        "amount": str(amount),
        "reason": increase.why,
    }


def granted(increase: Increase, amount: Usdc, author: str, now: int) -> Notice:
    """Make the notice of a limit that was raised."""
    text = f"{author} raised the limit of {increase.scope} by {amount} USDC {increase.window.words}"
    return limits_changed(f"granted:{increase.id}", str(increase.scope), text, now)
