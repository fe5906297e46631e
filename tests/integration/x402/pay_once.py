"""Make one purchase of a shop that settles at FACILITATOR_URL; the battery runs it in each mode."""

from __future__ import annotations

import os
import socket

from x402.http import FacilitatorConfig, HTTPFacilitatorClient

from coordinator_client import Agent
from coordinator_client.x402 import PaymentUnknown, paying
from tests.integration.x402 import shop
from tests.integration.x402.shop import Offer

_TRIES = 3


def main() -> int:
    """Buy, and after a lost answer ask again with the same key, as a program of ours does."""
    config = FacilitatorConfig(
        url=os.environ["FACILITATOR_URL"], timeout=float(os.environ["HOSTILE_CLIENT_TIMEOUT"])
    )
    host, _, port = os.environ["SHOP_HOST"].partition(":")
    offer = Offer("500000", os.environ["SHOP_PAYEE"], os.environ["SHOP_USDC"])
    key = f"battery-{os.getpid()}"
    with (
        socket.create_server((host, int(port))) as listening,
        shop.opened(
            (listening, os.environ["SHOP_HOST"]), HTTPFacilitatorClient(config), offer
        ) as selling,
        Agent(os.environ["TREASURY_URL"], os.environ["TREASURY_KEY"]) as agent,
        agent.x402_client() as session,
    ):
        for _ in range(_TRIES):
            try:
                with paying(idempotency_key=key):
                    return 0 if session.get(f"{selling.url}/paid").status_code == 200 else 1
            except PaymentUnknown:
                continue
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
