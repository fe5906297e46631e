"""What one agent may do, in Python."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from coordinator.domain.decision import Decision
from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.limits import LimitState
from coordinator.domain.purchase import Answer, Purchase, Request
from coordinator.domain.usdc import Usdc

if TYPE_CHECKING:
    from coordinator.interfaces.python import Coordinator


class Agent:
    """What one agent may do: ask, look, wait, cancel. It holds no key and sets no policy."""

    def __init__(self, coordinator: Coordinator, agent_id: str) -> None:
        self._coordinator = coordinator
        self.id = agent_id

    def purchase(
        self,
        *,
        provider: str,
        amount: str | Usdc,
        purpose: str,
        service: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        idempotency_key: str | None = None,
        wait: bool = True,
        timeout_seconds: float = 60,
    ) -> Purchase:
        """Ask to buy; the purchase as it is when funded, final, waiting for people, or timed out.

        ``amount`` is a decimal string of USDC or ``Usdc``. Give a key of your own to ask again
        safely: the same key never pays twice. Denials are returned, not raised. InvalidRequest
        for malformed input and IdempotencyConflict for a key with other terms write nothing.
        """
        request = self._request(
            provider=provider,
            amount=amount,
            purpose=purpose,
            service=service,
            category=category,
            task=task,
            session=session,
        )
        if wait:
            self._coordinator.start()
        purchase = self._coordinator.wiring.treasury.request(request, key=idempotency_key)
        if not wait or purchase.final or purchase.needs_approval:
            return purchase
        return self._coordinator.wait_for(purchase.id, timeout_seconds=timeout_seconds)

    async def apurchase(self, **terms: Any) -> Purchase:
        """``purchase`` off the event loop; cancelling the await does not cancel the purchase."""
        return await asyncio.to_thread(self.purchase, **terms)

    def check(self, **terms: Any) -> Decision:
        """What ``purchase`` of the same terms would decide; nothing is written or held."""
        for ignored in ("idempotency_key", "wait", "timeout_seconds"):
            terms.pop(ignored, None)
        return self._coordinator.wiring.treasury.check(self._request(**terms))

    def get(
        self, purchase_id: str | None = None, *, idempotency_key: str | None = None
    ) -> Purchase:
        """The agent's purchase by id or by its own key; UnknownId when there is none."""
        if (purchase_id is None) == (idempotency_key is None):
            raise InvalidRequest("name a purchase id or an idempotency key")
        if purchase_id is not None:
            found: Purchase | None = self._coordinator.get(purchase_id)
        else:
            assert idempotency_key is not None
            found = self._coordinator.wiring.purchases.find(self.id, idempotency_key)
        if found is None or found.agent != self.id:
            raise UnknownId(f"{self.id} has no such purchase")
        return found

    def purchases(
        self,
        *,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """The agent's purchases, newest first."""
        return self._coordinator.purchases(
            agent=self.id, status=status, since=since, limit=limit, after=after
        )

    def wait_for(
        self, purchase_id: str, *, until: str = "funded", timeout_seconds: float = 60
    ) -> Purchase:
        """Like ``Coordinator.wait_for``, for the agent's own purchase."""
        self.get(purchase_id)
        self._coordinator.start()
        return self._coordinator.wait_for(purchase_id, until=until, timeout_seconds=timeout_seconds)

    async def await_for(self, purchase_id: str, **terms: Any) -> Purchase:
        """``wait_for`` off the event loop."""
        return await asyncio.to_thread(self.wait_for, purchase_id, **terms)

    def cancel(self, purchase_id: str) -> Answer:
        """Cancel the agent's purchase while nothing is on its way; the hold is voided."""
        self.get(purchase_id)
        return self._coordinator.cancel(purchase_id, by=self.id)

    def settle(self, purchase_id: str) -> Answer:
        """Pay the provider of the agent's delivered purchase early, up to its threshold."""
        self.get(purchase_id)
        self._coordinator.start()
        return self._coordinator.wiring.treasury.settle(purchase_id, agent=self.id)

    def limits(self) -> Sequence[LimitState]:
        """The agent's and the organisation's limits, with what remains of each."""
        return self._coordinator.limits(self.id)

    def _request(self, **terms: Any) -> Request:
        address = self._coordinator.wiring.signer.address
        return Request.of(agent=self.id, treasury_address=address, **terms)
