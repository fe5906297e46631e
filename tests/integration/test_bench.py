"""The benchmarks of what pays and reads, as small as they get: they measure what they say."""

from __future__ import annotations

from collections import Counter

from tests.benchmarks.buyers import WAYS, open_buyers
from tests.benchmarks.floor import fill, pay
from tests.benchmarks.long_chain import EACH_BLOCK
from tests.benchmarks.long_node import LongNode, seed_of
from tests.benchmarks.proxy import CountingProxy
from tests.benchmarks.scene import open_coordinator, open_scene
from tests.benchmarks.steady import steady_gas


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


def test_a_made_chain_is_one_that_its_books_agree_with() -> None:
    with open_scene() as scene:
        (treasury,) = scene.treasuries([f"sqlite:///{scene.folder}/made.db"])
        settings = scene.environment(treasury, url="", public=False)
        scene.chain.hold_blocks()
        fill(scene, treasury, 1, each_block=1)
        seed = seed_of(scene, treasury, EACH_BLOCK + 2, held_back=2)
        with LongNode(scene.url, seed, scene.folder) as node:
            settings["COORDINATOR_RPC_URL"] = node.url
            with open_coordinator(settings, act=False) as coordinator:
                rebuilt = coordinator.rebuild()
                node.grow()
                more = coordinator.reconcile()
                again = coordinator.reconcile(from_block=rebuilt.from_block)
    assert more.from_block == rebuilt.to_block + 1
    assert more.to_block - rebuilt.to_block == 2
    for found, escrows in ((rebuilt, EACH_BLOCK + 3), (again, EACH_BLOCK + 5)):
        # Nobody has asked for them, and that is all that differs.
        assert [d.kind for d in found.discrepancies] == ["unknown_escrow"] * escrows


def test_a_safe_buys_in_one_batch_what_a_wallet_and_the_floor_buy_one_by_one() -> None:
    with open_scene() as scene:
        found = steady_gas(scene, [3])
    steps = {name: Counter(paid.step for paid in every) for name, every in found[3].items()}
    one_by_one = {"create": 3, "link": 3}
    assert steps == {"safe": {"batch": 1}, "wallet": one_by_one, "floor": one_by_one}
    gas = {name: sum(paid.gas for paid in every) for name, every in found[3].items()}
    # Both do the same, and the chain the same for both.
    assert abs(gas["wallet"] - gas["floor"]) < 1_000
