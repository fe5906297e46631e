"""Two endpoints of one chain, one of which goes wrong: the other is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.address import keccak256
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.chaos import fault_proxy as faults
from tests.chaos.evidence import check_lane, fundings
from tests.chaos.fault_proxy import SEND, Exchange, Fault, FaultProxy, Reply, method
from tests.chaos.malformed import MALFORMED
from tests.integration.local_chain import LocalChain
from tests.integration.stores import on_either, with_safe_in_campaigns
from tests.integration.world import World

pytestmark = [on_either, with_safe_in_campaigns]
FINALITY = 8


@pytest.fixture
def second(chain: LocalChain) -> Iterator[FaultProxy]:
    with FaultProxy(chain.url) as second:
        yield second


@pytest.fixture
def world(
    make_world: Callable[..., World],
    proxy: FaultProxy,
    second: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Behind two endpoints, with one purchase funded; a head that stands still is seen at once."""
    monkeypatch.setattr("coordinator.executor.failover._STILL_SECONDS", 0)
    world = make_world(rpc_url=f"{proxy.url},{second.url}", finality=str(FINALITY))
    world.fund("1.00")
    return world


def go(world: World) -> None:
    """Rounds and blocks as a running executor makes them, until everything asked for is done."""
    for _ in range(30):
        try:
            world.round()
        except ChainUnavailable:
            continue
        if world.executor.idle():
            return
        world.chain.mine()
    raise AssertionError(f"still in flight: {world.in_flight()}")


def finalise(world: World) -> None:
    world.chain.mine(FINALITY)
    for _ in range(3):
        world.round()


def check_funded_once(world: World, asked: Purchase) -> None:
    assert world.status(asked) == "funded"
    assert fundings(world, asked) == 1
    check_lane(world)
    world.check_books()


@pytest.mark.parametrize("behind", [1, 0], ids=["behind the books", "at the books"])
def test_a_first_endpoint_that_is_frozen_is_left_for_the_second(
    world: World, proxy: FaultProxy, behind: int
) -> None:
    final = world.wiring.books.final()
    with proxy.faulty(faults.stale(world.chain.height - behind)):
        asked = world.buy("25.00")
        go(world)
        check_funded_once(world, asked)
        finalise(world)
    assert world.wiring.books.final() != final


def _swallow(exchange: Exchange) -> Reply:
    """Take every transaction, say its hash, and keep it."""
    items = exchange.items
    hashes = ["0x" + keccak256(bytes.fromhex(i["params"][0][2:])).hex() for i in items]
    return exchange.answer(
        [
            {"jsonrpc": "2.0", "id": item["id"], "result": tx_hash}
            for item, tx_hash in zip(items, hashes, strict=True)
        ]
    )


def test_what_a_first_endpoint_swallows_is_sent_again_to_the_second(
    world: World, proxy: FaultProxy
) -> None:
    with proxy.faulty(Fault("swallowed", _swallow), method(SEND)):
        asked = world.buy("25.00")
        world.round()
        assert world.chain.pool(world.signer) == []
        go(world)
    check_funded_once(world, asked)


@pytest.mark.parametrize(
    ("fault", "times"),
    [(faults.SILENCE, 1), (MALFORMED["401 with JSON"][0], 1), (faults.CUT_BEFORE, 3)],
    ids=str,
)
def test_a_first_endpoint_that_is_out_is_soon_asked_no_more(
    world: World, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, times: int
) -> None:
    monkeypatch.setattr(world.wiring.rpc, "_timeout", 0.5)
    with proxy.faulty(fault):
        asked = world.buy("25.00")
        go(world)
        finalise(world)
        assert proxy.injected[fault.name] == times
    check_funded_once(world, asked)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_first_endpoint_with_malformed_answers_is_left_for_the_second(
    world: World, proxy: FaultProxy, second: FaultProxy, name: str
) -> None:
    fault, wanted = MALFORMED[name]
    usual = max(second.posts, default=0)
    second.posts.clear()
    with proxy.faulty(fault, wanted):
        asked = world.buy("25.00")
        go(world)
        finalise(world)
        assert fault.name in proxy.injected
    check_funded_once(world, asked)
    assert max(second.posts) >= max(usual, 3), "the size of its batches is its own"


def test_nothing_becomes_final_while_another_node_contradicts_it(
    make_world: Callable[..., World], chain: LocalChain, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(finality="2")
    asked = world.to_settle()
    final = world.wiring.books.final()
    world.coordinator.close()
    with Anvil.start() as other:
        Rpc([other.url]).call("anvil_mine", hex(chain.height + 40))
        world.coordinator = world.open(rpc_url=f"{chain.url},{other.url}")
        for _ in range(6):
            with suppress(ChainUnavailable):
                world.round()
            chain.mine()
        assert world.wiring.books.final() == final
        assert world.hold(asked) == ("held", ZERO)
    assert [r for r in caplog.records if r.message.startswith("endpoints_disagree")]
    world.coordinator.close()
    world.coordinator = world.open(rpc_url=chain.url)
    world.go()
    chain.mine(2)
    world.round()
    assert world.hold(asked) == ("posted", Usdc("5"))
    world.check_books()


def _of_another_chain(header: Any) -> Any:
    return header if header["number"] == "0x0" else {**header, "hash": "0x" + "f0" * 32}


def test_final_blocks_are_not_given_up_on_the_word_of_one_node_while_the_other_is_out(
    world: World, proxy: FaultProxy, second: FaultProxy
) -> None:
    finalise(world)
    final = world.wiring.books.final()
    (asked,) = world.coordinator.purchases()
    lie = faults.result("another chain", _of_another_chain)
    with proxy.faulty(faults.CUT_BEFORE), second.faulty(lie, method("eth_getBlockByNumber")):
        for _ in range(12):
            with suppress(ChainUnavailable):
                world.round()
            world.chain.mine()
        assert lie.name in second.injected
    assert world.rows("SELECT count(*) FROM audit WHERE event = 'journal_rolled_back'") == [(0,)]
    assert world.status(asked) == "funded"
    assert world.wiring.books.final() == final
    again = world.buy("25.00")
    go(world)
    check_funded_once(world, again)


def test_a_chain_that_stands_still_and_a_stuck_lane_are_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("coordinator.executor.failover._STALLED_SECONDS", 0)
    monkeypatch.setattr("coordinator.executor.watch._STUCK_SECONDS", 0)

    def told() -> list[str]:
        words = [record.message.split(" ")[0].rstrip(":") for record in caplog.records]
        return [word for word in words if word in ("chain_stalled", "lane_stuck")]

    for _ in range(3):
        world.round()
    assert told() == [], "nothing waits for a block"
    asked = world.buy_and_send()
    for _ in range(3):
        world.round()
    assert sorted(told()) == ["chain_stalled", "lane_stuck"]
    go(world)
    check_funded_once(world, asked)
