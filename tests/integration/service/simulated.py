"""A service on a simulated chain in this process, with a key for each role, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import uvicorn
from fastapi import FastAPI

from coordinator import Coordinator, Policy, Purchase
from coordinator.chain.simulated.genesis import USDC
from coordinator.server.app import make_app
from coordinator.server.serving import listen

AGENT, OTHER = "research-agent", "data-agent"
PROVIDER: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
WALLET: Final = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
#: What a server of the provider answers with 402.
ANSWER: Final[Mapping[str, Any]] = {
    "x402Version": 2,
    "accepts": [
        {
            "scheme": "exact",
            "network": "eip155:31337",
            "asset": USDC,
            "amount": "500000",
            "payTo": PROVIDER,
            "maxTimeoutSeconds": 60,
        }
    ],
}
POLICY: Final[Mapping[str, Any]] = {
    "organisation": {"total_limit": "100000", "daily_limit": "50000"},
    "agents": {
        name: {"per_purchase_limit": "1000", "daily_limit": "5000", "approval_threshold": "50"}
        for name in (AGENT, OTHER)
    },
    "providers": {
        "paper-api": {"address": PROVIDER, "service": "papers", "hosts": ["papers.example"]}
    },
    "categories": {"default": "other", "other": {}, "data": {}},
    "approvals": {"approvers": ["alice", "bob"], "required": 2},
    "sessions": {"default": {"total_limit": "500"}},
    "tasks": {"default": {"total_limit": "500"}},
    "increases": {"maximum": "500"},
}
NAMES: Final = {"agent": AGENT, "approver": "alice", "operator": "olga", "auditor": "ann"}


@dataclass(slots=True)
class SimulatedService:
    """The coordinator behind the service, its application, its URL, and tokens by role."""

    coordinator: Coordinator
    app: FastAPI
    url: str
    tokens: dict[str, str]
    #: End the server; the coordinator goes on.
    stop: Callable[[], None]
    _clients: list[httpx.Client] = field(default_factory=list)

    def client(self, role: str | None = "agent") -> httpx.Client:
        """A client with the role's key; ``other`` is another agent's, None has none."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        made = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        self._clients.append(made)
        return made

    def buy(self, amount: str = "5.00", *, agent: str = AGENT, **terms: Any) -> Purchase:
        """A purchase by the Python API."""
        asked: dict[str, Any] = {"provider": "paper-api", "purpose": "a paper", **terms}
        return self.coordinator.agent(agent).purchase(amount=amount, **asked)

    def close(self) -> None:
        for one in self._clients:
            one.close()


@contextmanager
def simulated_service(
    *, public_url: str | None = None, **changes: Any
) -> Iterator[SimulatedService]:
    """Serve a funded treasury at a loopback port; ``changes`` are tables of its policy."""
    policy = Policy.from_dict({**POLICY, **changes})
    # Only a worker has the wallet's key, and here nobody waits for a signature.
    settings = {"x402_signer": f"address:{WALLET}"}
    if public_url is not None:
        settings["public_url"] = public_url
    with Coordinator.from_env(network="simulated", policy=policy, **settings) as coordinator:
        coordinator.simulation.fund(coordinator.wiring.signer.address)
        tokens = {
            role: coordinator.create_api_key(role, name, by="root").token
            for role, name in NAMES.items()
        }
        tokens["other"] = coordinator.create_api_key("agent", OTHER, by="root").token
        app = make_app(coordinator, requests_per_second=10_000)
        with ExitStack() as stack:
            url = stack.enter_context(served(app))
            service = SimulatedService(coordinator, app, url, tokens, stop=stack.close)
            yield service
            service.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve the application in a thread; its URL."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
