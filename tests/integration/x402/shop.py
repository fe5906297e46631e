"""A shop behind the official x402 server middleware, over HTTP, and its books of the chain."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from x402 import x402ResourceServer
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact.server import ExactEvmScheme
from x402.schemas import AssetAmount

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.usdc import Usdc
from tests.integration.local_chain import LocalChain
from tests.integration.x402.facilitator import BAD_GATEWAY, NETWORK, Facilitator

_USED: Final = "0x" + keccak256(b"AuthorizationUsed(address,bytes32)").hex()
_TRANSFER: Final = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()


@dataclass
class Offer:
    """What the shop asks for; each field may be wrong in a test."""

    amount: str
    pay_to: str
    asset: str
    network: str = NETWORK
    max_timeout_seconds: int = 60


@dataclass
class Shop:
    """A running shop; ``served`` counts the requests that its handler answered."""

    url: str
    facilitator: Any
    served: int = 0


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket for a shop, and its host: a policy names it before the shop is open."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made, f"127.0.0.1:{made.getsockname()[1]}"


@contextmanager
def opened(
    on: tuple[socket.socket, str], facilitator: Any, *offers: Offer, **more: Offer
) -> Iterator[Shop]:
    """Sell ``/paid`` for what the offers say, and ``more`` paths, in a thread of its own."""
    networks = {offer.network for offer in (*offers, *more.values())}
    if isinstance(facilitator, Facilitator):
        facilitator.networks = tuple(networks)
    app = FastAPI()
    server = x402ResourceServer(facilitator)
    for network in networks:
        server.register(network, ExactEvmScheme())
    sold = {"paid": offers, **{path: (offer,) for path, offer in more.items()}}
    routes = {
        f"* /{path}": RouteConfig(accepts=[_option(one) for one in asked], description=path)
        for path, asked in sold.items()
    }
    app.middleware("http")(payment_middleware(routes, server))

    @app.middleware("http")
    async def gateway(request: Request, call_next: Any) -> Response:
        answer: Response = await call_next(request)
        paid = "PAYMENT-SIGNATURE" in request.headers
        lost = paid and getattr(facilitator, "fault", "") == BAD_GATEWAY
        return Response(status_code=502) if lost else answer

    shop = Shop(f"http://{on[1]}", facilitator)

    @app.api_route("/{path}", methods=["GET", "POST"])
    async def paper(path: str) -> Any:
        shop.served += 1
        if path == "moved":
            return RedirectResponse("/paid")
        return {"paper": "x402", "path": path}

    running = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [on[0]]})
    thread.start()
    try:
        yield shop
    finally:
        if isinstance(facilitator, Facilitator):
            facilitator.go.set()
            facilitator.closed.set()
        running.should_exit = True
        thread.join()


def _option(offer: Offer) -> PaymentOption:
    return PaymentOption(
        scheme="exact",
        pay_to=offer.pay_to,
        network=offer.network,
        max_timeout_seconds=offer.max_timeout_seconds,
        price=AssetAmount(
            amount=offer.amount,
            asset=offer.asset,
            extra={"name": "USDC", "version": "2", "note": {"ours": None}},
        ),
    )


@dataclass(frozen=True)
class Books:
    """What left one wallet since a block, by the token's own logs."""

    chain: LocalChain
    wallet: str
    since: int

    @classmethod
    def begin(cls, chain: LocalChain, wallet: str) -> Books:
        return cls(chain, wallet, chain.height)

    def payments(self) -> list[tuple[str, Usdc]]:
        """Payee and amount of each transfer out of the wallet, in the chain's order."""
        return [
            (
                checksummed("0x" + log["topics"][2][-40:]),
                Usdc.from_base_units(int(log["data"], 16)),
            )
            for log in self._logs(_TRANSFER)
        ]

    def used_nonces(self) -> list[str]:
        """The nonces of the wallet's authorisations that were used."""
        return [log["topics"][2] for log in self._logs(_USED)]

    def _logs(self, topic: str) -> list[dict[str, Any]]:
        asked = {
            "address": self.chain.deployment.usdc,
            "fromBlock": hex(self.since),
            "toBlock": "latest",
            "topics": [topic, "0x" + self.wallet[2:].lower().rjust(64, "0")],
        }
        found: list[dict[str, Any]] = self.chain.rpc.call("eth_getLogs", asked)
        return found
