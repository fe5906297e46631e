"""Payments for HTTP requests are held before they are signed, and signed once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.domain.usdc import Usdc
from tests.integration.stores import on_either
from tests.integration.world import World
from tests.integration.x402.paying import Payer

pytestmark = on_either


@pytest.fixture
def payer(make_world: Callable[..., World]) -> Payer:
    return Payer(make_world)


def test_what_is_asked_for_is_held_and_then_signed(payer: Payer) -> None:
    asked = payer.ask("0.50")
    assert asked.purchase.status == "approved" and asked.payment is None
    assert payer.world.usage() == (Usdc("0.50"), Usdc("0"))
    payer.world.round()
    paid = payer.ask("0.50")
    assert paid.payment is not None and paid.purchase.id == asked.purchase.id
    told = paid.payment["payload"]["authorization"]
    assert told["from"] == payer.wallet and told["to"] == payer.world.chain.provider
    assert told["value"] == "500000"
    assert paid.payment["accepted"] == payer.answer("0.50")["accepts"][0]
    assert paid.purchase.x402 is not None
    assert paid.purchase.x402.url == "https://papers.example/papers/7"
    assert payer.ask("0.50").payment == paid.payment and payer.signatures() == 1
