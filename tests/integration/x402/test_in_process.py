"""Clients of an agent in the treasury's own process, whose worker is a thread of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator import Coordinator
from coordinator_client.x402 import PaymentUnknown, paid, paying
from tests.integration.local_chain import LocalChain
from tests.integration.x402 import facilitator
from tests.integration.x402.bench import PRICE, Bench


def _session(coordinator: Coordinator, url: str) -> Any:
    with coordinator.agent("research-agent").x402_client() as session:
        return session.get(url)


def _client(coordinator: Coordinator, url: str) -> Any:
    async def get() -> Any:
        async with coordinator.agent("research-agent").ax402_client() as client:
            return await client.get(url)

    return asyncio.run(get())


@pytest.mark.parametrize("get", [_session, _client], ids=["requests", "httpx"])
def test_an_agent_pays_without_a_server(get: Any, bench: Bench, chain: LocalChain) -> None:
    bench.payer.world.coordinator.close()
    with bench.payer.world.open(act=True) as coordinator:
        bench.settling.fault = facilitator.BAD_GATEWAY
        with paying(idempotency_key="k-1"), pytest.raises(PaymentUnknown):
            get(coordinator, bench.url)
        bench.settling.fault = facilitator.HONEST
        with paying(idempotency_key="k-1"):
            got = get(coordinator, bench.url)
        bought = coordinator.agent("research-agent").get(idempotency_key="k-1")

    told = paid(got)
    assert got.json()["paper"] == "x402"
    assert told is not None and told.purchase_id == bought.id
    assert bench.books.payments() == [(chain.provider, PRICE)]
    assert bench.payer.signatures() == 1
