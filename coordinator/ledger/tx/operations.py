"""Rows beside purchases: pauses, balances seen, orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.domain.chain.accounts import account_name
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.ports import Observation
from coordinator.domain.purchase.decision import Funds
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.proposal import Proposal
from coordinator.domain.usdc import Usdc
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.facts import read_treasury_state
from coordinator.ledger.tx.pausing import (
    Pause,
    begin_recovery,
    list_pauses,
    pause_scope,
    recovering,
    report_tampering,
)
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

# An unchanged balance is written again only this often.
_REFRESH_SECONDS = 15
# How far the chain's clock may be behind ours.
_CLOCKS_APART_SECONDS = 300
# What a wallet needs nothing of: others pay its gas.
_OF_NO_USE: Final = {"usdc_allowance": 0, "gas_balance_wei": "0", "note": None}


@dataclass(frozen=True, slots=True)
class SeenBalances:
    """The treasury's balances as the executor last stored them."""

    at: int
    block_number: int
    usdc_balance: Usdc
    usdc_allowance: Usdc
    gas_balance_wei: int
    fees: Fees
    note: str | None


class OperationsBook:
    """Small facts, each written with its audit row."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._last_seen: tuple[int, object] | None = None

    def store_balances(
        self, treasury: str, seen: Observation, *, now: int, again: bool = False
    ) -> None:
        """Keep balances for decisions, when they changed or the stored ones grow old, or again."""
        facts = (seen.usdc, seen.usdc_allowance, seen.gas_balance_wei, seen.rail_trouble)
        last = self._last_seen
        if not again and last and last[1] == facts and now - last[0] < _REFRESH_SECONDS:
            return
        values = {
            "at": now,
            "block_number": seen.head.number,
            "usdc_balance": seen.usdc_balance.base_units,
            "usdc_allowance": seen.usdc_allowance.base_units,
            "gas_balance_wei": str(seen.gas_balance_wei),
            "max_fee_per_gas": seen.fees.max_fee_per_gas if seen.fees else 0,
            "call_gas": seen.fees.call_gas if seen.fees else 0,
            "making_gas": seen.fees.making_gas if seen.fees else 0,
            "l1_fee_upper_bound_wei": seen.fees.l1_fee_upper_bound_wei if seen.fees else 0,
            "note": seen.rail_trouble,
        }
        with self._database.write() as connection:
            _store(connection, treasury, values)
            if seen.wallet is not None and seen.wallet_balance is not None:
                usdc = {"usdc_balance": seen.wallet_balance.base_units}
                _store(connection, seen.wallet, values | _OF_NO_USE | usdc)
        self._last_seen = (now, facts)

    def balances(self, treasury: str) -> SeenBalances | None:
        """The balances last stored; None when no executor ever ran."""
        query = select(t.observations).where(t.observations.c.treasury == treasury)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return SeenBalances(
            at=row.at,
            block_number=row.block_number,
            usdc_balance=Usdc.from_base_units(row.usdc_balance),
            usdc_allowance=Usdc.from_base_units(row.usdc_allowance),
            gas_balance_wei=int(row.gas_balance_wei),
            fees=Fees(
                row.max_fee_per_gas, 0, row.l1_fee_upper_bound_wei, row.call_gas, row.making_gas
            ),
            note=row.note,
        )

    def funds(self, treasury: str, now: int) -> Funds | None:
        """Return what is not promised yet, by the balances last stored; None when they are old."""
        with self._database.read() as connection:
            return read_treasury_state(connection).funds(treasury, now)

    def pauses(self) -> Sequence[Pause]:
        """Everything that is stopped."""
        with self._database.read() as connection:
            return list_pauses(connection)

    def recovering(self) -> bool:
        """Whether the books were found behind the chain, and no approver has looked yet."""
        with self._database.read() as connection:
            return recovering(connection)

    def begin_recovery(self, reason: str, *, now: int) -> None:
        """Stop all new spending because the books are behind the chain, whoever had stopped it."""
        with self._transactions.write() as tx:
            begin_recovery(tx, reason, now=now)

    def report_tampering(self, subject: str, what: str, *, now: int) -> None:
        """Stop all new spending and tell that somebody else writes to the database."""
        with self._transactions.write() as tx:
            report_tampering(tx, subject, what, now=now)

    def pause(self, pause: Pause) -> bool:
        """Stop new spending in the scope; False when it is stopped already."""
        with self._transactions.write() as tx:
            return pause_scope(tx, pause)

    def orders(self, *statuses: str) -> Sequence[Order]:
        """Orders in the given statuses (all without any), oldest first."""
        query = select(t.orders).order_by(t.orders.c.created_at, t.orders.c.id)
        if statuses:
            query = query.where(t.orders.c.status.in_(statuses))
        with self._database.read() as connection:
            return [
                Order(
                    r.id,
                    r.kind,
                    r.recipient,
                    Usdc.from_base_units(r.amount),
                    r.by,
                    r.reason,
                    r.status,
                    r.created_at,
                    r.message,
                )
                for r in connection.execute(query)
            ]

    def order(self, proposal: Proposal) -> Order:
        """The withdrawal that was proposed: as it was ordered, or as it waits for approvers."""
        found = next((order for order in self.orders() if order.id == proposal.id), None)
        terms = proposal.terms
        return found or Order(
            proposal.id,
            proposal.kind.value,
            terms["recipient"],
            Usdc.from_base_units(terms["amount"]),
            proposal.by,
            proposal.reason,
            proposal.status.value,
            proposal.created_at,
            proposal.waiting().message if proposal.waits else None,
        )

    def orders_to_send(self) -> Sequence[Order]:
        """Approved orders that own no step yet, oldest first."""
        waiting = self.orders("approved")
        if not waiting:
            return []
        stepped = select(t.steps.c.reference).where(
            t.steps.c.reference.in_([order.id for order in waiting])
        )
        with self._database.read() as connection:
            taken = set(connection.execute(stepped).scalars())
        return [order for order in waiting if order.id not in taken]

    def may_be_done(self, order: Order) -> bool:
        """Whether the same amount went to the same recipient since, in no transaction of ours.

        So it is in a database that was put back from before the order was signed.
        """
        ours, to = select(t.attempts.c.hash), order.recipient
        same = select(t.journal.c.log_index).where(
            t.journal.c.kind.in_((EntryKind.OUTFLOW.value, EntryKind.INTERNAL.value)),
            t.journal.c.debit.in_((f"address:{to.lower()}", account_name(to))),
            t.journal.c.amount == order.amount.base_units,
            t.journal.c.at >= order.created_at - _CLOCKS_APART_SECONDS,
            t.journal.c.tx_hash.not_in(ours),
        )
        with self._database.read() as connection:
            return connection.execute(same.limit(1)).first() is not None

    def end_order(self, order_id: str, status: str, *, message: str | None, now: int) -> None:
        """Note what became of an order: done or failed."""
        with self._transactions.write() as tx:
            tx.connection.execute(
                update(t.orders)
                .where(t.orders.c.id == order_id, t.orders.c.status == "approved")
                .values(status=status, message=message)
            )
            tx.record(now, f"order_{status}", order_id, why=message)

    def explain(self, discrepancy_id: str, *, by: str, reason: str, now: int) -> None:
        """Close a discrepancy as an audit row; the books stay as they are."""
        with self._transactions.write() as tx:
            tx.connection.execute(
                delete(t.explanations).where(t.explanations.c.discrepancy_id == discrepancy_id)
            )
            tx.connection.execute(
                insert(t.explanations).values(
                    discrepancy_id=discrepancy_id, by=by, reason=reason, at=now
                )
            )
            tx.record(now, "discrepancy_explained", discrepancy_id, by=by, reason=reason)

    def explained(self) -> frozenset[str]:
        """Return the ids of discrepancies that the audit log tells somebody has explained."""
        with self._transactions.read() as tx:
            query = select(t.explanations.c.discrepancy_id)
            ids = tx.connection.execute(query).scalars().all()
            if not ids:
                return frozenset()
            proven = tx.proven(*ids, events=("discrepancy_explained",), skip=True)
            return frozenset(row.subject for row in proven)


def _store(connection: Connection, account: str, values: dict[str, Any]) -> None:
    o = t.observations
    changed = connection.execute(update(o).where(o.c.treasury == account).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(o).values(treasury=account, **values))


def insert_order(
    tx: Tx,
    kind: str,
    *,
    order_id: str,
    recipient: str,
    amount: Usdc,
    by: str,
    reason: str,
    now: int,
    **agreed: Any,
) -> None:
    """Order a withdrawal or a mint; ``agreed`` is who approved it."""
    terms = {"recipient": recipient, "amount": amount.base_units, "by": by, "reason": reason}
    tx.connection.execute(
        insert(t.orders).values(id=order_id, kind=kind, status="approved", created_at=now, **terms)
    )
    tx.record(now, f"{kind}_ordered", order_id, **terms, **agreed)
