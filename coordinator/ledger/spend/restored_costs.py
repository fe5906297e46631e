"""Restore costs of a lost database, charged as they were."""

from __future__ import annotations

from functools import partial
from typing import Final

from coordinator.domain.purchase.cost import Cost, CostRequest, CostStatus, cost_counters
from coordinator.domain.purchase.decision import Facts
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.limits.logged_budgets import LoggedBudgets, LoggedCost
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.spend.costs import insert_cost
from coordinator.ledger.tx.transaction import Tx

_TERMS: Final = ("agent", "category", "provider", "task", "session", "purpose")


def put_costs(tx: Tx, past: LoggedBudgets) -> None:
    """Insert every cost with its hold, charged as if it were placed now at its own instant."""
    openings = partial(read_opening, tx.connection)
    for cost_id, logged in past.costs.items():
        cost = _cost(cost_id, logged)
        facts = Facts(tx.rules, logged.at, ZERO, lambda keys: {}, openings=openings)
        counters = cost_counters(cost.request, facts).counters
        held = cost.amount.base_units if cost.status is CostStatus.HELD else 0
        charges = tx.sheet.charge(counters, held=held, spent=logged.posted)
        insert_cost(tx, cost, charges, ended_at=logged.ended_at)


def _cost(cost_id: str, logged: LoggedCost) -> Cost:
    body = logged.body
    amount = Usdc.from_base_units(body["amount"])
    return Cost(
        id=cost_id,
        status=CostStatus(logged.status),
        request=CostRequest(amount=amount, **{term: body[term] for term in _TERMS}),
        category=body["category"],
        posted=Usdc.from_base_units(logged.posted),
        created_at=logged.at,
        expires_at=body["expires_at"],
        by_owner=logged.by_owner,
    )
