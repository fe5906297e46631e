"""Order USDC from the treasury to the wallet that pays for HTTP requests."""

from __future__ import annotations

from coordinator.domain.errors import InvalidRequest
from coordinator.domain.purchase.order import Order
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.top_ups import STOPS, TOP_UP, Headroom
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.x402.top_up_book import new_order_id, under_way, window_left


def order_top_up(
    tx: Tx, *, wallet: str, treasury: str, amount: Usdc, by: str, reason: str, now: int
) -> Order:
    """Order a top-up; InvalidRequest where the worker would not sign it.

    It needs nobody's approval: it stays ours, and its daily limit is the policy's.
    """
    if (why := _refused(tx, amount, treasury=treasury, now=now)) is not None:
        raise InvalidRequest(f"{amount} USDC can't be sent to {wallet}: {why}", code="no_top_up")
    order_id = new_order_id()
    insert_order(
        tx,
        TOP_UP,
        order_id=order_id,
        recipient=wallet,
        amount=amount,
        by=by,
        reason=reason,
        now=now,
    )
    return Order(order_id, TOP_UP, wallet, amount, by, reason, "approved", now)


def _refused(tx: Tx, amount: Usdc, *, treasury: str, now: int) -> str | None:
    state, left = tx.treasury_state, window_left(tx, now=now)
    if left is None:
        return "the policy has no [x402] top_up_daily_limit"
    stopped = next((scope for scope in STOPS if scope in state.paused), None)
    if stopped is not None:
        return f"{stopped[0]} is paused"
    if under_way(tx.connection):
        return "another top-up is on its way"
    funds = state.funds(treasury, now)
    # Without balances of the moment the worker judges by what it sees.
    return Headroom(funds.usdc_free if funds is not None else amount, left).refused(amount)
