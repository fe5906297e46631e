"""The paying clients, called in the same way; and the SDK's own, with a key, to compare with."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import requests
from x402 import x402ClientSync
from x402.http.clients.requests import wrapRequestsWithPayment
from x402.mechanisms.evm.exact import ExactEvmScheme

from coordinator_client.x402 import PayingClient, PayingSession, paying

REQUESTS, HTTPX = "requests", "httpx"
FACES: Final = (REQUESTS, HTTPX)


class Buyer:
    """Gets what costs money; ``key`` is the payment's."""

    def __init__(self, http: Any, runner: asyncio.Runner | None) -> None:
        self._http, self._runner = http, runner

    def get(self, url: str, key: str | None = None, **about: Any) -> Any:
        if key is None:
            return self._done(self._http.get(url))
        with paying(idempotency_key=key, **about):
            return self._done(self._http.get(url))

    def _done(self, found: Any) -> Any:
        if self._runner is None:
            return found
        # A runner has a context of its own, which does not know this payment.
        return self._runner.run(found, context=contextvars.copy_context())


class InThread:
    """An agent whose calls are made in the loop's own thread, as if awaited."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    async def authorise_x402(self, *args: Any, **terms: Any) -> Any:
        return self._agent.authorise_x402(*args, **terms)


@contextmanager
def opened(face: str, agent: Any, *, timeout_seconds: float = 60) -> Iterator[Buyer]:
    """A client of this kind, for an agent that asks in the calling thread."""
    if face == REQUESTS:
        with PayingSession(agent, timeout_seconds=timeout_seconds) as session:
            session.trust_env = False
            yield Buyer(session, None)
        return
    with asyncio.Runner() as runner:
        client = PayingClient(InThread(agent), timeout=timeout_seconds, trust_env=False)
        try:
            yield Buyer(client, runner)
        finally:
            runner.run(client.aclose())


@contextmanager
def naive(account: Any, *, timeout_seconds: float = 60) -> Iterator[requests.Session]:
    """The SDK's own client: it signs again for every try."""
    sdk = x402ClientSync()
    sdk.register("eip155:*", ExactEvmScheme(account))
    sdk.set_spend_controls(False)
    with requests.Session() as session:
        session.trust_env = False
        yield wrapRequestsWithPayment(session, sdk)
