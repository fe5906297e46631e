"""The part of an agent's Python API that pays for HTTP requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coordinator.api.arguments import checked
from coordinator.api.paying import paying_client, paying_session
from coordinator.api.runtime import Runtime
from coordinator.api.watcher import AuthorisationWait
from coordinator.domain.purchase.purchase import PaymentAnswer, Purchase
from coordinator.domain.x402.request import PaymentRequest, payment_request

if TYPE_CHECKING:
    from coordinator_client.x402 import PayingClient, PayingSession


@checked
class RequestPayments(ABC):
    """Payments of one agent for single HTTP requests (x402)."""

    def __init__(self, runtime: Runtime, agent_id: str) -> None:
        self._runtime = runtime
        self.id = agent_id

    @abstractmethod
    def get(self, purchase_id: str) -> Purchase:
        """Return the agent's purchase; UnknownId when there is none."""

    @abstractmethod
    def _look_at_level(self) -> None:
        """Tell whoever wants to know when the agent's service level changed."""

    def authorise_x402(
        self,
        answer: Mapping[str, Any],
        *,
        url: str,
        idempotency_key: str,
        purpose: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        timeout_seconds: float = 10,
    ) -> PaymentAnswer:
        """Ask the treasury to pay for one HTTP request, which a server answered with 402.

        ``answer`` is the server's answer whole, ``url`` what was asked for. The same key gives the
        same payment, for ever: nothing is ever signed twice for it. Waits at most
        ``timeout_seconds`` for the signature. Denials are returned, not raised. InvalidRequest
        where nothing in the answer can be paid and IdempotencyConflict for a key with another
        price, payee or host write nothing.
        """
        asked = self._payment_request(answer, url=url, purpose=purpose)
        purchase = self._ask_to_authorise(
            asked, idempotency_key, category=category, task=task, session=session
        )
        if not (purchase.final or purchase.needs_approval):
            wait = AuthorisationWait(purchase.id, timeout_seconds)
            purchase = self._runtime._wait(wait, purchase)
        return self._payment(purchase)

    async def aauthorise_x402(
        self,
        answer: Mapping[str, Any],
        *,
        url: str,
        idempotency_key: str,
        purpose: str | None = None,
        category: str | None = None,
        task: str | None = None,
        session: str | None = None,
        timeout_seconds: float = 10,
    ) -> PaymentAnswer:
        """Await ``authorise_x402``; cancelling the await takes nothing back."""
        asked = self._payment_request(answer, url=url, purpose=purpose)
        terms = {"category": category, "task": task, "session": session}
        purchase = await self._runtime.off_loop(
            lambda: self._ask_to_authorise(asked, idempotency_key, **terms)
        )
        if purchase.final or purchase.needs_approval or not timeout_seconds:
            return await self._runtime.off_loop(lambda: self._payment(purchase))
        return await self.await_payment(purchase.id, timeout_seconds=timeout_seconds)

    async def await_payment(
        self, purchase_id: str, *, timeout_seconds: float = 10
    ) -> PaymentAnswer:
        """Await the signature of the agent's payment for an HTTP request, or its end."""
        wait = AuthorisationWait(purchase_id, timeout_seconds)
        purchase = await self._runtime._await(wait, lambda: self.get(purchase_id))
        return await self._runtime.off_loop(lambda: self._payment(purchase))

    def x402_client(self, *, timeout_seconds: float = 60) -> PayingSession:
        """Return a ``requests.Session`` that pays x402 servers within this agent's limits.

        It needs the extra ``x402``. ``timeout_seconds`` is for requests that name none.
        """
        return paying_session(self, timeout_seconds=timeout_seconds)

    def ax402_client(self, *, timeout_seconds: float = 60) -> PayingClient:
        """Return an ``httpx.AsyncClient`` that does what ``x402_client``'s session does."""
        return paying_client(self, timeout_seconds=timeout_seconds)

    def _payment_request(
        self, answer: Mapping[str, Any], *, url: str, purpose: str | None
    ) -> PaymentRequest:
        deployment = self._runtime.wiring.deployment
        return payment_request(
            answer,
            url=url,
            purpose=purpose,
            agent=self.id,
            chain_id=deployment.chain_id,
            usdc=deployment.usdc,
        )

    def _ask_to_authorise(self, asked: PaymentRequest, key: str, **terms: str | None) -> Purchase:
        self._runtime.start()
        purchase = self._runtime.wiring.treasury.pay_request(asked, key=key, **terms)
        self._look_at_level()
        return purchase

    def _payment(self, purchase: Purchase) -> PaymentAnswer:
        payment = self._runtime.wiring.authorisations.payment(purchase.id)
        return PaymentAnswer(purchase, payment)
