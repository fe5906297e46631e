"""Budgets folded from the rows of an audit log, to restore a lost database.

Costs with their counters, tasks and sessions, and what lay over the policy. Requests for more that
waited for people are asked again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, insert

from coordinator.domain.audit import AuditRow
from coordinator.domain.limits.rules import SESSION, TASK
from coordinator.ledger.limits.overlays import logged_overlays, put_overlay
from coordinator.ledger.store import schema as t


@dataclass(slots=True)
class LoggedCost:
    """A cost as the log tells it; ``posted`` in base units, times in unix seconds."""

    at: int
    body: dict[str, Any]
    status: str
    posted: int
    ended_at: int | None
    by_owner: bool = True


@dataclass(slots=True)
class LoggedBudgets:
    """Costs, tasks and sessions by their ids; what lay over the policy, oldest first."""

    costs: dict[str, LoggedCost] = field(default_factory=dict)
    openings: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    overlays: list[AuditRow] = field(default_factory=list)

    def take(self, row: AuditRow) -> None:
        """Fold one row; rows come in their order."""
        kind, _, done = row.event.partition("_")
        if row.event in OVERLAID:
            self.overlays.append(row)
        elif kind == "cost":
            self._cost(row, done)
        elif kind in (TASK, SESSION) and done == "opened":
            self.openings[kind, row.subject] = row.body | {"at": row.at}
        elif kind in (TASK, SESSION) and done == "closed":
            # Without the row of its opening, which was cut out, there is nothing to close.
            known = self.openings.get((kind, row.subject), {})
            known |= {"closed_by": row.body["by"], "closed_at": row.at}

    def _cost(self, row: AuditRow, done: str) -> None:
        if done == "held":
            self.costs[row.subject] = LoggedCost(row.at, row.body, "held", 0, None)
        elif done == "recorded":
            spent = row.body["amount"]
            self.costs[row.subject] = LoggedCost(row.at, row.body, "posted", spent, row.at)
        elif (known := self.costs.get(row.subject)) is not None:
            known.status, known.posted, known.ended_at = done, row.body["posted"], row.at
            known.by_owner = row.body["by_owner"]


OVERLAID: Final = frozenset(
    {"limit_granted", "pool_shared", "agent_disabled", "agent_enabled", "overlay_withdrawn"}
)


def put_rules(connection: Connection, past: LoggedBudgets) -> None:
    """Open the tasks and sessions again, and lay over the policy what lay over it."""
    for (kind, name), body in past.openings.items():
        closed = "closed_at" in body
        connection.execute(
            insert(t.openings).values(
                kind=kind,
                id=name,
                agent=body["agent"],
                limits=json.dumps({key: body[key] for key in ("limits", "categories")}),
                status="closed" if closed else "open",
                opened_by=body["by"],
                opened_at=body["at"],
                closed_by=body.get("closed_by"),
                closed_at=body.get("closed_at"),
                by_agent=int(body["by_agent"]),
            )
        )
    for row in past.overlays:
        for one in logged_overlays(row):
            put_overlay(connection, one, author=row.body["by"], reason=row.body["reason"])
