"""The benchmark of purchases, as small as it gets: what it measures is what it says."""

from __future__ import annotations

from tests.benchmarks.buyers import WAYS, open_buyers
from tests.benchmarks.floor import pay
from tests.benchmarks.proxy import CountingProxy
from tests.benchmarks.scene import open_scene


def test_the_floor_and_every_way_of_buying_fund_what_they_say() -> None:
    with open_scene() as scene:
        urls = [f"sqlite:///{scene.folder}/{name}.db" for name in ("floor", "buyers")]
        floor_treasury, treasury = scene.treasuries(urls)
        with CountingProxy(scene.url) as proxy:
            floor = pay(scene, floor_treasury, proxy.url, 3)
            counts = proxy.counts()
        assert (floor.purchases, counts.requests) == (3, 1)
        assert counts.methods == {"eth_sendRawTransaction": 6}
        left = scene.chain.balance(floor_treasury.address)
        with open_buyers(scene, treasury, public=False) as buyers:
            _, alone = buyers.one(1, 0)
            assert alone.methods["eth_sendRawTransaction"] == 2
            for way in WAYS:
                bought = buyers.at_once(way, 3, timeout_seconds=60)
                assert (bought.purchases, bought.funded) == (3, 3)
                assert bought.calls >= 6
        spent = left.base_units - scene.chain.balance(treasury.address).base_units
        # Two before, and three in each of three ways.
        assert spent == (2 + 9 - 3) * 10**6
