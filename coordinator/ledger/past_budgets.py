"""Costs, overlays, tasks and sessions of a lost database, as its audit log tells them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, insert

from coordinator.domain.limits import Scope, ScopeKind
from coordinator.domain.rules import Rules, Terms
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger import schema as t
from coordinator.ledger.audit_export import AuditRow
from coordinator.ledger.counters import CounterSheet
from coordinator.ledger.openings import read_opening
from coordinator.ledger.overlays import insert_overlay

_ENDS: Final = {"cost_posted": "posted", "cost_voided": "voided"}
_BEGINS: Final = {"cost_held": "held", "cost_recorded": "posted"}


@dataclass(slots=True)
class PastCost:
    """A cost; amounts are in base units, times unix seconds."""

    at: int
    body: dict[str, Any]
    status: str
    posted: int
    ended_at: int | None


@dataclass(slots=True)
class PastBudgets:
    """What the log says of budgets, folded row by row."""

    costs: dict[str, PastCost] = field(default_factory=dict)
    overlays: list[AuditRow] = field(default_factory=list)
    openings: dict[tuple[str, str], AuditRow] = field(default_factory=dict)
    closings: dict[tuple[str, str], AuditRow] = field(default_factory=dict)

    def take(self, row: AuditRow) -> None:
        """Fold one row; rows come in their order."""
        event, body = row.event, row.body
        if event in _BEGINS:
            spent = body["amount"] if event == "cost_recorded" else 0
            ended = row.at if spent else None
            self.costs[row.subject] = PastCost(row.at, body, _BEGINS[event], spent, ended)
        elif event in _ENDS and row.subject in self.costs:
            cost = self.costs[row.subject]
            cost.status, cost.posted, cost.ended_at = _ENDS[event], body["posted"], row.at
        elif event in _LAID:
            self.overlays.append(row)
        elif event in ("task_opened", "session_opened"):
            self.openings[event.partition("_")[0], row.subject] = row
        elif event in ("task_closed", "session_closed"):
            self.closings[event.partition("_")[0], row.subject] = row


def put_rules(connection: Connection, past: PastBudgets) -> None:
    """Put grants, shares, disabled agents, tasks and sessions back as they were."""
    given: dict[str, str] = {}
    for row in past.overlays:
        _LAID[row.event](connection, row, given)
    for (kind, name), row in past.openings.items():
        closed = past.closings.get((kind, name))
        body = row.body
        limits = {"limits": body["limits"], "categories": body["categories"]}
        connection.execute(
            insert(t.openings).values(
                kind=kind,
                id=name,
                agent=body["agent"],
                limits=json.dumps(limits),
                status="closed" if closed else "open",
                opened_by=body["by"],
                opened_at=row.at,
                closed_by=closed.body["by"] if closed else None,
                closed_at=closed.at if closed else None,
            )
        )


def put_costs(connection: Connection, costs: Iterable[tuple[str, PastCost]], rules: Rules) -> None:
    """Put costs back with their holds, in the counters of the rules in force."""
    sheet = CounterSheet(connection)
    openings = partial(read_opening, connection)
    for cost_id, cost in costs:
        body = cost.body
        said = {key: body[key] for key in ("agent", "category", "provider", "task", "session")}
        held = body["amount"] if cost.status == "held" else 0
        counters = rules.charged(Terms(**said), cost.at, openings)
        charges = sheet.charge(counters, held=held, spent=cost.posted)
        connection.execute(
            insert(t.costs).values(
                id=cost_id,
                **said,
                purpose=body["purpose"],
                created_at=cost.at,
                expires_at=body["expires_at"],
            )
        )
        connection.execute(
            insert(t.holds).values(
                kind="off_chain",
                cost_id=cost_id,
                amount=body["amount"],
                status=cost.status,
                posted=cost.posted,
                placed_at=cost.at,
                ended_at=cost.ended_at,
                charges=json.dumps(charges),
            )
        )
    sheet.flush()


def _granted(connection: Connection, row: AuditRow, given: dict[str, str]) -> None:
    body = row.body
    given[row.subject] = insert_overlay(
        connection,
        "grant",
        scope=Scope.of(body["scope"]),
        window=Window(body["window"]),
        amount=Usdc.from_base_units(body["amount"]),
        author=body["by"],
        reason=f"granted by {row.subject}",
        starts_at=row.at,
        ends_at=body["ends_at"],
        increase_id=body["of"],
    )


def _shared(connection: Connection, row: AuditRow, given: dict[str, str]) -> None:
    body = row.body
    for agent, share in body["shares"].items():
        insert_overlay(
            connection,
            "allocation",
            scope=Scope.pair(ScopeKind.POOL_AGENT, row.subject, agent),
            window=Window(body["window"]),
            amount=Usdc.from_base_units(share),
            author=body["by"],
            reason=body["reason"],
            starts_at=row.at,
        )


def _abled(connection: Connection, row: AuditRow, given: dict[str, str]) -> None:
    insert_overlay(
        connection,
        row.event.removeprefix("agent_"),
        scope=Scope(ScopeKind.AGENT, row.subject),
        author=row.body["by"],
        reason=row.body["reason"],
        starts_at=row.at,
    )


def _withdrawn(connection: Connection, row: AuditRow, given: dict[str, str]) -> None:
    # A share has no row of its own: one that was withdrawn is in force again, which refuses more.
    if row.subject in given:
        insert_overlay(
            connection,
            "withdrawn",
            author=row.body["by"],
            reason=row.body["reason"],
            starts_at=row.at,
            withdrawn=given[row.subject],
        )


_LAID: Final = {
    "limit_granted": _granted,
    "pool_shared": _shared,
    "agent_disabled": _abled,
    "agent_enabled": _abled,
    "overlay_withdrawn": _withdrawn,
}
