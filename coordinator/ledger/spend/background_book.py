"""Read what was done before with a provider, and by an agent; short in any history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, func, literal_column, select

from coordinator.domain.purchase.background import COUNTED_MAX, Decided, ProviderPast
from coordinator.domain.purchase.lifecycle import Status
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transactions import Transactions

_e, _ev, _p = t.escrows.c, t.escrow_events.c, t.purchases.c
# Written out: a partial index serves only a text that has its condition.
_SETTLED: Final = select(func.count().label("settled")).select_from(
    select(_e.seq)
    .where(_e.provider == bindparam("address"), _e.state == literal_column("'settled'"))
    .limit(COUNTED_MAX)
    .subquery()
)
_DISPUTED: Final = select(func.count()).select_from(
    select(_ev.escrow_id)
    .join(t.escrows, _e.escrow_id == _ev.escrow_id)
    .where(_ev.state == literal_column("'disputed'"), _e.provider == bindparam("address"))
    .distinct()
    .limit(COUNTED_MAX)
    .subquery()
)
_newest = (
    select(_p.status, _p.created_at)
    .where(_p.agent == bindparam("agent"))
    .order_by(_p.seq.desc())
    .limit(COUNTED_MAX)
    .subquery()
)
_COUNTS: Final = (
    select(_newest.c.status, func.count())
    .where(_newest.c.created_at >= bindparam("since"))
    .group_by(_newest.c.status)
)
STATEMENTS: Final = {"settled": _SETTLED, "disputed": _DISPUTED, "counts": _COUNTS}
_YES: Final = ("proposal_approved_by", "increase_approved_by")
_NO: Final = ("proposal_rejected", "increase_rejected_by")


class BackgroundBook:
    """Reads the past of providers and agents."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def provider(self, address: str) -> ProviderPast:
        """Return how many escrows with this address were settled, and disputed."""
        # As logs have it.
        asked = {"address": address.lower()}
        with self._transactions.read() as tx:
            settled = tx.connection.execute(_SETTLED, asked).scalar_one()
            disputed = tx.connection.execute(_DISPUTED, asked).scalar_one()
        return ProviderPast(address, settled, disputed)

    def counts(self, agent: str, *, since: int) -> Mapping[Status, int]:
        """Count the agent's requests made at ``since`` or later, by status; of the newest only."""
        with self._transactions.read() as tx:
            rows = tx.connection.execute(_COUNTS, {"agent": agent, "since": since}).all()
        return {Status(status): count for status, count in rows}

    def decisions(self, subject: str) -> list[Decided]:
        """Return who decided a proposal or a request for more, and when, oldest first."""
        with self._transactions.read() as tx:
            rows = tx.proven(subject, events=(*_YES, *_NO))
        return [
            Decided(
                row.body.get("approver") or row.body.get("by") or "",
                "approved" if row.event in _YES else "rejected",
                row.body.get("reason"),
                row.at,
            )
            for row in rows
        ]
