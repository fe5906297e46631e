"""What the simulated node has and Anvil has not: equal runs, Base's fees, limits, and faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.chain.rpc.client import BatchRefused, Call, RpcRefused
from coordinator.chain.simulated import (
    BASE,
    ETHEREUM,
    Ask,
    FeeMarket,
    Refused,
    Rules,
    SimulatedNode,
    SimulatedRpc,
)
from coordinator.domain.errors import ChainUnavailable, ConfigurationError

GWEI = 10**9


def make(seed: int = 0, **rules: Any) -> SimulatedNode:
    return SimulatedNode(clock=lambda: 1_800_000_000, seed=seed, rules=Rules(**rules))


def pay(node: SimulatedNode, nonce: int, **fields: Any) -> str:
    """A payment of an unlocked account, waiting when blocks are held."""
    one, other = node.call("eth_accounts")[4:6]
    fees = {"maxFeePerGas": hex(2 * GWEI), "maxPriorityFeePerGas": hex(GWEI)}
    asked = {"from": one, "to": other, "value": "0x1", "gas": hex(21_000), "nonce": hex(nonce)}
    return str(node.call("eth_sendTransaction", asked | fees | fields))


def run(seed: int, payments: int = 3) -> str:
    node = make(seed)
    for nonce in range(payments):
        pay(node, nonce)
    node.reorg(2)
    node.mine()
    return node.head_hash


def test_equal_seeds_and_acts_give_equal_hashes() -> None:
    assert run(7) == run(7)
    assert len({run(7), run(8), run(7, payments=4)}) == 3


@pytest.mark.parametrize(
    ("market", "base_fee", "used", "after"),
    [
        (ETHEREUM, 8 * GWEI, 200, 9 * GWEI),
        (ETHEREUM, 8 * GWEI, 100, 8 * GWEI),
        (ETHEREUM, 8 * GWEI, 0, 7 * GWEI),
        (ETHEREUM, 1, 101, 2),
        (BASE, 125_000_000, 600, 130_000_000),
        (BASE, 125_000_000, 0, 124_000_000),
        (BASE, 5_000_000, 0, 5_000_000),
    ],
)
def test_the_base_fee_rises_and_falls_by_the_markets_rule(
    market: FeeMarket, base_fee: int, used: int, after: int
) -> None:
    limit = 200 if market is ETHEREUM else 600
    assert market.next_base_fee(base_fee, used, limit) == after


def test_full_blocks_raise_the_base_fee_and_leave_the_rest_waiting() -> None:
    node = make(market=ETHEREUM, gas_limit=42_000)
    node.call("evm_setAutomine", False)
    hashes = [pay(node, nonce) for nonce in range(3)]
    before = node.machine.next_base_fee()
    node.mine()
    assert [node.call("eth_getTransactionReceipt", h) is None for h in hashes] == [
        False,
        False,
        True,
    ]
    assert node.machine.next_base_fee() == before + before // 8


def test_a_reorg_brings_back_places_and_loses_what_is_asked() -> None:
    node = make()
    hashes = [pay(node, nonce) for nonce in range(4)]
    node.call("evm_setAutomine", False)
    node.reorg(4, placed={hashes[0]: 2}, lost={hashes[2]})
    assert int(node.call("eth_getTransactionReceipt", hashes[0])["blockNumber"], 16) == 3
    content = node.call("txpool_content")
    waiting = {
        part: [tx["hash"] for by_nonce in content[part].values() for tx in by_nonce.values()]
        for part in content
    }
    assert waiting == {"pending": [hashes[1]], "queued": [hashes[3]]}


def test_a_pool_may_have_a_limit_and_a_node_may_forget_states() -> None:
    node = make(limit_per_sender=2, states_kept=3)
    node.call("evm_setAutomine", False)
    for nonce in range(2):
        pay(node, nonce)
    with pytest.raises(Refused, match="txpool is full"):
        pay(node, 2)
    node.mine(5)
    account = node.call("eth_accounts")[0]
    node.call("eth_getBalance", account, "0x3")
    with pytest.raises(Refused, match="pruned"):
        node.call("eth_getBalance", account, "0x2")


def test_a_read_goes_to_the_next_endpoint_and_a_send_may_lose_its_answer() -> None:
    asked: list[str] = []

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        asked.append(url)
        if url == "http://a":
            raise ChainUnavailable("down")
        answers = ask(url, calls)
        if calls[0][0] == "evm_mine":
            raise ChainUnavailable("lost")
        return answers

    node = make()
    rpc = SimulatedRpc({"http://a": node, "http://b": node}, tell)
    assert rpc.call("eth_blockNumber") == "0x0"
    assert asked == ["http://a", "http://b"]
    with pytest.raises(ChainUnavailable, match="lost"):
        rpc.send([("evm_mine", [])])
    assert node.height == 1


def test_all_answers_of_a_batch_are_one_endpoints() -> None:
    asked: list[tuple[str, int]] = []

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        asked.append((url, len(calls)))
        if url == "http://a" and len(calls) > 2:
            raise BatchRefused("too many")
        if url == "http://a" and len(asked) > 3:
            raise ChainUnavailable("down")
        return ask(url, calls)

    node, other = make(), make()
    other.mine(3)
    rpc = SimulatedRpc({"http://a": node, "http://b": other}, tell)
    assert rpc.batch([("eth_blockNumber", [])] * 5) == ["0x3"] * 5
    # One size for each endpoint: the first took two at once, the second all of them.
    assert asked == [
        ("http://a", 5),
        ("http://a", 2),
        ("http://a", 2),
        ("http://a", 1),
        ("http://b", 5),
    ]


def test_an_endpoint_of_another_chain_is_not_used() -> None:
    rpc = SimulatedRpc(SimulatedNode(1))
    rpc.expect_chain(31337)
    with pytest.raises(ConfigurationError):
        rpc.call("eth_blockNumber")


def test_an_error_of_one_call_leaves_the_others_of_its_batch() -> None:
    rpc = SimulatedRpc(make())
    first, second = rpc.batch([("eth_noMethod", []), ("eth_blockNumber", [])])
    assert (first.code, second) == (-32601, "0x0")
    with pytest.raises(RpcRefused):
        rpc.call("eth_getBalance", 5)
