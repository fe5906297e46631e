"""One shop for a test, and a treasury whose policy knows its host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.local_chain import LocalChain
from tests.integration.world import World
from tests.integration.x402 import shop
from tests.integration.x402.bench import PRICE, Bench, Working
from tests.integration.x402.facilitator import Facilitator
from tests.integration.x402.paying import Payer
from tests.integration.x402.shop import Books, Offer


@pytest.fixture
def host() -> Iterator[tuple[Any, str]]:
    with shop.listening() as found:
        yield found


@pytest.fixture
def payer(make_world: Callable[..., World], host: tuple[Any, str]) -> Payer:
    return Payer(make_world, provider={"hosts": [host[1]]})


@pytest.fixture
def bench(payer: Payer, chain: LocalChain, host: tuple[Any, str]) -> Iterator[Bench]:
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    with shop.opened(host, Facilitator(chain), offer) as opened:
        yield Bench(payer, Working(payer.world), opened, Books.begin(chain, payer.wallet))
