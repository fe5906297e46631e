"""A shop, the treasury that pays it, and what the chain says of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.usdc import Usdc
from tests.integration.test_reorg import finalise
from tests.integration.world import World
from tests.integration.x402.facilitator import Facilitator
from tests.integration.x402.paying import Payer
from tests.integration.x402.shop import Books, Shop

PRICE: Final = Usdc("0.50")


class Working:
    """The treasury's agent, whose worker has a round after each question."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.asked: list[dict[str, Any]] = []

    def authorise_x402(self, answer: Any, **terms: Any) -> Any:
        self.asked.append({"answer": answer, **terms})
        agent = self._world.coordinator.agent("research-agent")
        said = agent.authorise_x402(answer, timeout_seconds=0, **terms)
        if said.payment is not None or said.purchase.final or said.purchase.needs_approval:
            return said
        self._world.round()
        return agent.authorise_x402(answer, timeout_seconds=0, **terms)


@dataclass
class Bench:
    """A shop that is open, the treasury that pays it, and what left its wallet."""

    payer: Payer
    agent: Working
    shop: Shop
    books: Books

    @property
    def url(self) -> str:
        return f"{self.shop.url}/paid"

    @property
    def settling(self) -> Facilitator:
        found: Facilitator = self.shop.facilitator
        return found

    @property
    def balance(self) -> Usdc:
        return self.payer.world.chain.balance(self.payer.wallet)

    def ends(self) -> dict[str, tuple[str, str, Usdc]]:
        """Status and hold of each purchase, once all that is mined is final; the books agree."""
        world = self.payer.world
        finalise(world)
        world.check_books()
        return {
            one.id: (str(one.status), *world.hold(one)) for one in world.coordinator.purchases()
        }
