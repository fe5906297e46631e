"""Find a purchase that was made a moment ago with the same terms under another key."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, func, literal_column, select

from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.lifecycle import OPEN, X402, Status
from coordinator.domain.purchase.request import Request
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

#: Purchases made in (now − this, now] are compared; older ones are no duplicates.
DUPLICATE_SECONDS: Final = 600
# What is open, or was paid: all else ended without a payment.
_COUNTED: Final = sorted(OPEN | {Status.SETTLED})
_p = t.purchases.c
_older = t.purchases.alias().c
#: Of the agent's purchases that many, the newest, are looked at: whoever makes thousands in ten
#: minutes must not keep everybody's writer waiting.
LOOKED_AT_MAX: Final = 1_000
_FLOOR: Final = Prepared(
    select(_p.seq)
    .where(_p.agent == bindparam("agent_"))
    .order_by(_p.seq.desc())
    .limit(1)
    .offset(LOOKED_AT_MAX)
)
# The agent's last purchase from before; walked to from its newest one, along ``purchases_agent``.
_BEFORE: Final = (
    select(_older.seq)
    .where(
        _older.agent == bindparam("agent_"),
        _older.seq > bindparam("floor_"),
        _older.created_at <= bindparam("before_"),
    )
    .order_by(_older.seq.desc())
    .limit(1)
    .scalar_subquery()
)
_DUPLICATE: Final = Prepared(
    select(_p.id)
    .where(
        _p.agent == bindparam("agent_"),
        _p.seq > func.coalesce(_BEFORE, bindparam("floor_")),
        func.lower(_p.provider) == bindparam("provider_"),
        _p.amount == bindparam("amount_"),
        # A payment for an HTTP request is another thing than an escrow of the same amount.
        _p.settle != literal_column(f"'{X402}'"),
        func.coalesce(_p.service, literal_column("''")) == bindparam("service_"),
        _p.status.in_([literal_column(f"'{status}'") for status in _COUNTED]),
    )
    .order_by(_p.seq.desc())
    .limit(1)
)


def find_duplicate(tx: Tx, request: Request, decision: Decision, now: int) -> str | None:
    """Return the agent's newest purchase of the last ten minutes with the same payee and amount.

    The service counts as it was decided. Purpose, category, task and session do not: whoever asks
    again in other words wants the same thing. What was denied, or ended unpaid, is no duplicate.
    """
    tx.flush()
    floor = _FLOOR.one(tx.connection, {"agent_": request.agent})
    found = _DUPLICATE.one(
        tx.connection,
        {
            "agent_": request.agent,
            "floor_": floor[0] if floor is not None else 0,
            "before_": now - DUPLICATE_SECONDS,
            "provider_": decision.provider.lower(),
            "amount_": request.amount.base_units,
            "service_": decision.service or "",
        },
    )
    return None if found is None else str(found[0])
