"""The scheme in clients of the official SDK: one signature, whatever the SDK does around it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import requests
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.clients.requests import wrapRequestsWithPayment
from x402.schemas import RecoveredResponseResult

from coordinator_client.x402 import paying, sdk_client, sdk_client_sync
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_either
from tests.integration.x402 import facilitator
from tests.integration.x402.bench import PRICE, Bench
from tests.integration.x402.buyers import InThread

pytestmark = on_either


def _requests(bench: Bench, recover: Any) -> int:
    sdk = sdk_client_sync(bench.agent)
    sdk._client.on_payment_response(recover)
    with requests.Session() as session, paying(idempotency_key="k-1"):
        return wrapRequestsWithPayment(session, sdk).get(bench.url, timeout=60).status_code


def _httpx(bench: Bench, recover: Any) -> int:
    sdk = sdk_client(InThread(bench.agent))
    sdk._client.on_payment_response(recover)

    async def get() -> int:
        async with httpx.AsyncClient(transport=x402AsyncTransport(sdk), timeout=60) as http:
            with paying(idempotency_key="k-1"):
                return (await http.get(bench.url)).status_code

    return asyncio.run(get())


@pytest.mark.parametrize("get", [_requests, _httpx], ids=["requests", "httpx"])
def test_a_recovery_sends_the_same_payment(get: Any, bench: Bench, chain: LocalChain) -> None:
    """Hooks of others may ask the SDK for a fresh payment; there is none."""
    bench.settling.fault = facilitator.ASKS_TWICE

    def recover(_: Any) -> RecoveredResponseResult | None:
        bench.settling.fault = facilitator.HONEST
        return RecoveredResponseResult()

    assert get(bench, recover) == 200
    assert len(bench.settling.nonces) == 2 and len(set(bench.settling.nonces)) == 1
    assert bench.books.payments() == [(chain.provider, PRICE)]
    assert bench.payer.signatures() == 1


def test_a_client_without_http_asks_for_what_the_server_names(
    bench: Bench, chain: LocalChain
) -> None:
    sdk = sdk_client_sync(bench.agent)
    asked = requests.get(bench.url, timeout=60)
    required = sdk.get_payment_required_response(asked.headers.get, None)
    with paying(idempotency_key="k-1"):
        made = sdk._client.create_payment_payload(required)
    header = sdk.encode_payment_signature_header(made)

    assert requests.get(bench.url, headers=header, timeout=60).status_code == 200
    assert bench.agent.asked[0]["url"] == bench.url
    assert bench.books.payments() == [(chain.provider, PRICE)]
