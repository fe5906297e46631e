"""HTTP clients that pay x402 servers for an agent of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from coordinator.domain.purchase.purchase import PaymentAnswer
from coordinator.extras import needs_extra

if TYPE_CHECKING:
    from coordinator_client.x402 import PayingClient, PayingSession
    from coordinator_client.x402.asking import Treasury


class _Awaitable(Protocol):
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
    ) -> PaymentAnswer: ...


class _Awaited:
    """An agent whose calls are awaited, as the client in an event loop asks it."""

    def __init__(self, agent: _Awaitable) -> None:
        self._agent = agent

    async def authorise_x402(self, answer: Mapping[str, Any], **terms: Any) -> PaymentAnswer:
        return await self._agent.aauthorise_x402(answer, **terms)


def paying_session(agent: Treasury, *, timeout_seconds: float) -> PayingSession:
    """Return a ``requests.Session``; ConfigurationError without the extra."""
    with needs_extra("x402", "x402_client"):
        from coordinator_client.x402.requests_session import PayingSession
    return PayingSession(agent, timeout_seconds=timeout_seconds)


def paying_client(agent: _Awaitable, *, timeout_seconds: float) -> PayingClient:
    """Return an ``httpx.AsyncClient``; ConfigurationError without the extra."""
    with needs_extra("x402", "ax402_client"):
        from coordinator_client.x402.httpx_client import PayingClient
    return PayingClient(_Awaited(agent), timeout=timeout_seconds)
