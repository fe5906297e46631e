"""The worker fills the wallet's float from the treasury, within the policy's window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.domain.purchase.order import Order
from coordinator.domain.usdc import ZERO, Usdc
from tests.integration.stores import on_either
from tests.integration.world import World
from tests.integration.x402.paying import Payer

pytestmark = on_either
DAY = 86_400
TERMS = {"top_up_below": "5", "top_up_to": "10", "top_up_daily_limit": "20"}


def filled(make_world: Callable[..., World], float_: str = "2", **terms: Any) -> Payer:
    """A wallet of this float whose policy has it filled; nothing was done yet."""
    return Payer(make_world, float_=float_, **(TERMS | terms))


def orders(payer: Payer) -> list[Order]:
    return [o for o in payer.world.wiring.operations.orders() if o.kind == "top_up"]


def balance(payer: Payer) -> Usdc:
    return payer.world.chain.balance(payer.wallet)


def test_a_float_below_its_mark_is_filled_and_is_nobody_s_spending(
    make_world: Callable[..., World],
) -> None:
    payer = filled(make_world)
    world = payer.world
    world.go()
    (order,) = orders(payer)
    assert (order.status, order.amount, order.by) == ("done", Usdc("8"), "worker")
    assert balance(payer) == Usdc("10")
    assert world.moves().count(("internal", "8.00")) == 1
    assert world.usage() == (ZERO, ZERO)
    world.go()
    assert len(orders(payer)) == 1
    report = world.coordinator.report().as_dict()
    assert (report["paid"], report["withdrawals"]) == ("0.00", "0.00")
    world.check_books()
