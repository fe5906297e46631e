"""The battery of the package ``hostile-facilitator``: no mode makes our client pay twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from hostile_facilitator.adapter import HostileServer
from hostile_facilitator.hostile import ALL_MODES
from x402.http import FacilitatorConfig, HTTPFacilitatorClient

from coordinator_client.x402 import PaymentUnknown
from tests.integration.local_chain import LocalChain
from tests.integration.stores import by_default, on_either
from tests.integration.x402 import buyers, shop
from tests.integration.x402.bench import PRICE, Working
from tests.integration.x402.paying import Payer
from tests.integration.x402.shop import Offer

pytestmark = on_either

#: How often the buyer asks again, with the same key, before it gives up.
_TRIES: Final = 3
_CLIENT_SECONDS: Final = 2.0
_FAST: Final = ("5xx_after_settle", "double_402", "declared_safe", "clean")


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> Iterator[HostileServer]:
    with HostileServer(request.param, client_timeout_s=_CLIENT_SECONDS) as server:
        yield server
        server._httpd.server_close()


@pytest.mark.parametrize("hostile", by_default(ALL_MODES, _FAST), indirect=True)
def test_no_mode_is_paid_twice(
    hostile: HostileServer, payer: Payer, chain: LocalChain, host: tuple[Any, str]
) -> None:
    config = FacilitatorConfig(url=f"http://127.0.0.1:{hostile.port}", timeout=_CLIENT_SECONDS)
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    got: list[int] = []
    with (
        shop.opened(host, HTTPFacilitatorClient(config), offer) as selling,
        buyers.opened(buyers.REQUESTS, Working(payer.world)) as buyer,
    ):
        for _ in range(_TRIES):
            try:
                got.append(buyer.get(f"{selling.url}/paid", "k-1").status_code)
                break
            except PaymentUnknown as error:
                assert error.idempotency_key == "k-1"

    assert hostile.distinct_payments == 1 and hostile.unidentified_calls == 0
    # After a lost answer the same payment is accepted as one that was made.
    assert got == [200]
    assert payer.signatures() == 1
