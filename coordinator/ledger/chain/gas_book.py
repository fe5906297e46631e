"""Gas that was paid, by the receipts of our transactions."""

from __future__ import annotations

from sqlalchemy import func, select

from coordinator.domain.chain.gas import share
from coordinator.domain.chain.steps import StepKind
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database

_s = t.steps.c
_a = t.attempts.c


class GasBook:
    """Sums over mined transactions, in wei."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_agent(self) -> dict[str, int]:
        """Wei paid for mined transactions, by agent; the treasury's own under an empty name.

        A batch is paid by the agents of its members, in equal shares.
        """
        query = (
            select(
                func.coalesce(t.purchases.c.agent, ""),
                _a.gas_used,
                _a.effective_gas_price,
                _a.l1_fee_wei,
                _s.position,
                t.MEMBERS,
            )
            .join(t.steps, _a.step_id == t.SIGNED_AS)
            .outerjoin(t.purchases, t.purchases.c.id == _s.purchase_id)
            .where(_a.gas_used.is_not(None), _s.kind != StepKind.BATCH.value)
        )
        sums: dict[str, int] = {}
        with self._database.read() as connection:
            for agent, used, price, l1_fee, position, members in connection.execute(query):
                wei = used * price + l1_fee
                paid = share(wei, position, members) if members else wei
                sums[agent] = sums.get(agent, 0) + paid
        return sums

    def by_step(self) -> dict[str, tuple[int, int, int]]:
        """(count, gas used, wei) of mined transactions, by step kind."""
        query = (
            select(_s.kind, _a.gas_used, _a.effective_gas_price, _a.l1_fee_wei)
            .join(t.steps, _s.id == _a.step_id)
            .where(_a.gas_used.is_not(None))
        )
        sums: dict[str, tuple[int, int, int]] = {}
        with self._database.read() as connection:
            for kind, used, price, l1_fee in connection.execute(query):
                count, gas, wei = sums.get(kind, (0, 0, 0))
                sums[kind] = (count + 1, gas + used, wei + used * price + l1_fee)
        return sums
