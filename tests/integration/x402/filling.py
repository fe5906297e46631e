"""A wallet whose float the treasury fills, as tests look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.domain.purchase.order import Order
from coordinator.domain.usdc import Usdc
from tests.integration.world import World
from tests.integration.x402.paying import Payer

DAY: Final = 86_400
TERMS: Final[Mapping[str, str]] = {
    "top_up_below": "5",
    "top_up_to": "10",
    "top_up_daily_limit": "20",
}


class Filled(Payer):
    """A wallet of 2 USDC, which ``fill`` has the policy fill up to 10."""

    def __init__(self, make_world: Callable[..., World], **settings: str) -> None:
        super().__init__(make_world, float_="2", settings=settings)

    def fill(self, **terms: str) -> None:
        """Put a policy in force that has the float filled, unless ``terms`` say otherwise."""
        self.put(**(TERMS | terms))

    def orders(self) -> list[Order]:
        return [o for o in self.world.wiring.operations.orders() if o.kind == "top_up"]

    def amounts(self) -> list[str]:
        """What was sent, by the chain."""
        moves = self.world.moves()
        return [amount for kind, amount in moves if kind == "internal"]

    def balance(self) -> Usdc:
        return self.world.chain.balance(self.wallet)

    def warned(self) -> list[str]:
        """Why people were told that the float is low, oldest first."""
        query = "SELECT message FROM notices WHERE kind = 'x402_float_low' ORDER BY seq"
        return [message for (message,) in self.world.rows(query)]
