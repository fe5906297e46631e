"""Plan the calls of orders: withdrawals, top-ups of the wallet, and mints of test tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from coordinator.domain.chain.steps import Call, PaymentTerms
from coordinator.domain.ports import Clock, Rail
from coordinator.domain.purchase.forecast import Forecast
from coordinator.domain.purchase.order import Order
from coordinator.domain.x402.top_ups import TOP_UP
from coordinator.ledger.tx.operations import OperationsBook


class Orders:
    """Chooses the calls of orders, and fails those that can't be carried out.

    ``waiting`` lets one wait that no node answers about, ``not_yet`` tells of one that has to.
    """

    def __init__(
        self,
        *,
        chain: Rail,
        operations: OperationsBook,
        clock: Clock,
        waiting: Callable[[str], AbstractContextManager[None]],
        not_yet: Callable[[Order], bool],
    ) -> None:
        self._not_yet = not_yet
        self._chain = chain
        self._operations = operations
        self._clock = clock
        self._waiting = waiting

    def plan(self, orders: Sequence[Order], forecast: Forecast) -> None:
        for order in orders:
            if self._not_yet(order):
                continue
            if (why := self._done_before(order)) is not None:
                self._fail(order, why)
                continue
            with self._waiting(order.id):
                call = self._call(order)
                refusal = self._chain.refusal(call)
                short = order.kind != "mint" and order.amount > forecast.usdc
                if refusal is not None or short:
                    why = refusal or "the USDC is needed for purchases already on their way"
                    self._fail(order, why)
                    continue
                forecast.add(call)

    def _call(self, order: Order) -> Call:
        if order.kind == "mint":
            return self._chain.mint(order_id=order.id, amount=order.amount)
        send = self._chain.top_up if order.kind == TOP_UP else self._chain.withdraw
        call = send(order_id=order.id, recipient=order.recipient, amount=order.amount)
        return replace(call, terms=PaymentTerms(order.recipient, order.amount))

    def _done_before(self, order: Order) -> str | None:
        """Say why the order may have been carried out already, in a database since put back."""
        if order.kind == "mint" or not self._operations.may_be_done(order):
            return None
        return (
            "a transaction unknown to this database already paid this amount to this recipient"
            " after it was ordered; if another payment is meant, order it again"
        )

    def _fail(self, order: Order, why: str) -> None:
        self._operations.end_order(order.id, "failed", message=why, now=self._clock())
