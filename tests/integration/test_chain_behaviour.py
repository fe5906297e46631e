"""What the coordinator relies on in a node, asserted alike of Anvil and of the simulated node.

Nonces, the pool, fees and receipts.

Where a test says ``strict``, real nodes and the simulated one keep to a rule that Anvil does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coordinator.chain.evm.send_answers import classify
from coordinator.domain.ports import Sent
from tests.integration.local_chain import LocalChain
from tests.integration.node_wallet import (
    GWEI,
    UNKNOWN,
    Wallet,
    create_data,
    hash_of,
    header,
    mined,
    refusal,
    strict,
)


@pytest.fixture(autouse=True)
def _base_fee_as_before(chain: LocalChain) -> Iterator[None]:
    """Taking the chain back does not take its next base fee back."""
    yield
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(1_000_000))


@pytest.fixture
def chain(held_chain: LocalChain) -> LocalChain:
    return held_chain


@pytest.fixture
def wallet(chain: LocalChain) -> Wallet:
    return Wallet(chain)


# Nonces.


def test_a_count_is_of_mined_transactions_and_pending_adds_what_waits(wallet: Wallet) -> None:
    before = wallet.chain.height
    for nonce in range(3):
        assert wallet.send(nonce) == hash_of(wallet.raw(nonce))
    assert (wallet.count(), wallet.count("pending")) == (0, 3)
    wallet.chain.mine()
    assert (wallet.count(), wallet.count("pending")) == (3, 3)
    assert (wallet.count(hex(before)), wallet.count(hex(before + 1))) == (0, 3)


def test_a_nonce_that_was_used_is_too_low(wallet: Wallet) -> None:
    wallet.send(0)
    wallet.chain.mine()
    assert wallet.send(0) is Sent.NONCE_USED
    assert wallet.send(0, value=2) is Sent.NONCE_USED


def test_the_same_bytes_again_are_known(wallet: Wallet) -> None:
    wallet.send(0)
    assert wallet.send(0) is Sent.ACCEPTED
    assert len(wallet.chain.pool(wallet.address)) == 1


def test_what_can_not_be_paid_is_refused(wallet: Wallet) -> None:
    assert wallet.send(0, value=10**18) is Sent.INSUFFICIENT_FUNDS
    assert wallet.send(0, maxFeePerGas=10**18 // 21_000 + 1) is Sent.INSUFFICIENT_FUNDS
    assert wallet.chain.pool(wallet.address) == []


def test_all_that_waits_must_be_paid_for(wallet: Wallet) -> None:
    strict(wallet.chain, "it looks at each transaction by itself")
    half = 10**18 // 2
    assert wallet.send(0, value=half) == hash_of(wallet.raw(0, value=half))
    assert wallet.send(1, value=half) is Sent.INSUFFICIENT_FUNDS


@pytest.mark.parametrize(
    "fields",
    [{"chainId": 1}, {"gas": 20_999}, {"maxPriorityFeePerGas": 3 * GWEI}, {"gas": 500_000_000}],
    ids=str,
)
def test_what_no_block_can_hold_is_refused_and_proves_nothing(
    wallet: Wallet, fields: dict[str, int]
) -> None:
    assert wallet.send(0, **fields) is Sent.UNKNOWN
    assert wallet.chain.pool(wallet.address) == []


@pytest.mark.parametrize("raw", ["0x", "0x02", "0x02c0", "0xf86b", "0x02" + "ff" * 40])
def test_bytes_that_are_no_transaction_are_refused(chain: LocalChain, raw: str) -> None:
    assert classify(refusal(chain, "eth_sendRawTransaction", raw).message).sent is Sent.UNKNOWN


def test_bytes_of_a_changed_transaction_have_another_sender(wallet: Wallet) -> None:
    raw = wallet.raw(0)
    changed = raw.replace(wallet.chain.stranger[2:].lower(), wallet.chain.payee[2:].lower())
    assert changed != raw
    # Whoever that is has no ETH; or the signature fits no point of the curve at all.
    assert wallet.send_raw(changed) in (Sent.INSUFFICIENT_FUNDS, Sent.UNKNOWN)


# The pool.


def test_a_transaction_waits_for_the_nonce_before_it(wallet: Wallet) -> None:
    chain = wallet.chain
    second = wallet.send(1)
    chain.mine()
    assert not mined(chain, second)
    assert (wallet.count(), wallet.count("pending")) == (0, 0)
    content = chain.rpc.call("txpool_content")
    assert [len(content[part]) for part in ("pending", "queued")] == [0, 1]
    assert chain.rpc.call("eth_getTransactionByHash", second)["blockNumber"] is None

    first = wallet.send(0)
    assert wallet.count("pending") == 2
    chain.mine()
    block = chain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert block["transactions"] == [first, second]


def test_ten_percent_more_replaces(wallet: Wallet) -> None:
    chain = wallet.chain
    old = wallet.send(0)
    new = wallet.send(0, maxFeePerGas=22 * GWEI // 10, maxPriorityFeePerGas=11 * GWEI // 10)
    assert isinstance(new, str) and not isinstance(new, Sent)
    assert [tx["hash"] for tx in chain.pool(wallet.address)] == [new]
    chain.mine()
    assert mined(chain, new)
    assert not mined(chain, old)
    assert chain.rpc.call("eth_getTransactionByHash", old) is None


@pytest.mark.parametrize("fee", [GWEI * 2, GWEI * 3 // 2])
def test_not_more_does_not_replace(wallet: Wallet, fee: int) -> None:
    old = wallet.send(0)
    assert wallet.send(0, value=2, maxFeePerGas=fee) is Sent.UNDERPRICED
    assert [tx["hash"] for tx in wallet.chain.pool(wallet.address)] == [old]


@pytest.mark.parametrize(
    ("fee", "tip"),
    [(2_199_999_999, 1_100_000_000), (2_200_000_000, 1_099_999_999), (4 * GWEI, GWEI)],
)
def test_less_than_ten_percent_on_either_fee_does_not_replace(
    wallet: Wallet, fee: int, tip: int
) -> None:
    strict(wallet.chain, "any higher fee replaces")
    old = wallet.send(0)
    said = wallet.send(0, maxFeePerGas=fee, maxPriorityFeePerGas=tip)
    assert said is Sent.UNDERPRICED
    assert [tx["hash"] for tx in wallet.chain.pool(wallet.address)] == [old]


def test_a_block_takes_the_best_tip_first_and_each_sender_in_nonce_order(chain: LocalChain) -> None:
    poor, rich = Wallet(chain), Wallet(chain)
    low = [poor.send(n) for n in range(2)]
    tip = {"maxFeePerGas": 5 * GWEI, "maxPriorityFeePerGas": 5 * GWEI}
    high = [rich.send(n, **tip) for n in range(2)]
    chain.mine()
    assert header(chain)["transactions"] == [*high, *low]


def test_a_dropped_transaction_is_nowhere_and_can_be_sent_again(wallet: Wallet) -> None:
    chain = wallet.chain
    tx_hash = wallet.send(0)
    chain.rpc.call("anvil_dropTransaction", tx_hash)
    chain.mine()
    assert chain.rpc.call("eth_getTransactionByHash", tx_hash) is None
    assert wallet.count("pending") == 0
    assert wallet.send(0) == tx_hash
    chain.mine()
    assert mined(chain, tx_hash)


def test_what_is_behind_a_dropped_transaction_waits(wallet: Wallet) -> None:
    strict(wallet.chain, "it drops the next nonces too")
    chain = wallet.chain
    first, second = (wallet.send(n) for n in range(2))
    chain.rpc.call("anvil_dropTransaction", first)
    chain.mine()
    assert not mined(chain, second)
    wallet.send(0)
    chain.mine()
    assert mined(chain, second)


def test_an_emptied_pool_is_mined_as_an_empty_block(wallet: Wallet) -> None:
    chain = wallet.chain
    for nonce in (0, 1, 3):
        wallet.send(nonce)
    chain.rpc.call("anvil_dropAllTransactions")
    assert chain.pool(wallet.address) == []
    chain.mine()
    assert header(chain)["transactions"] == []


def test_with_automine_a_send_is_a_block(wallet: Wallet) -> None:
    chain = wallet.chain
    chain.rpc.call("evm_setAutomine", True)
    before = chain.height
    tx_hash = wallet.send(0)
    for _ in range(200):
        # Anvil mines just after its answer.
        if mined(chain, tx_hash):
            break
    assert int(chain.receipt(tx_hash)["blockNumber"], 16) == chain.height == before + 1


# Fees.


def test_the_base_fee_follows_the_use_of_the_block_before(wallet: Wallet) -> None:
    chain = wallet.chain
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    chain.mine()
    assert int(header(chain)["baseFeePerGas"], 16) == GWEI
    for nonce in range(4):
        wallet.send(nonce)
        last = header(chain)
        chain.mine()
        fee, used, limit = (
            int(last[name], 16) for name in ("baseFeePerGas", "gasUsed", "gasLimit")
        )
        target = limit // 2
        assert used < target
        expected = fee - fee * (target - used) // target // 8
        assert int(header(chain)["baseFeePerGas"], 16) == expected


def test_what_pays_less_than_the_base_fee_is_not_mined(wallet: Wallet) -> None:
    chain = wallet.chain
    tx_hash = wallet.send(0)
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(3 * GWEI))
    chain.mine()
    assert not mined(chain, tx_hash)
    assert wallet.count() == 0


def test_what_pays_less_than_the_base_fee_waits_until_it_falls(wallet: Wallet) -> None:
    strict(wallet.chain, "a spike evicts")
    chain = wallet.chain
    tx_hash = wallet.send(0)
    for fee in (3 * GWEI, 2 * GWEI + 1):
        chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(fee))
        chain.mine()
        assert not mined(chain, tx_hash)
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(2 * GWEI))
    chain.mine()
    receipt = chain.receipt(tx_hash)
    assert int(receipt["effectiveGasPrice"], 16) == 2 * GWEI


def test_a_transaction_pays_base_fee_and_tip_for_the_gas_it_used(wallet: Wallet) -> None:
    chain = wallet.chain
    chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(GWEI // 2))
    tx_hash = wallet.send(0, value=7, gas=30_000)
    received = chain.gas_balance_wei(chain.stranger)
    chain.mine()
    receipt = chain.receipt(tx_hash)
    price, used = int(receipt["effectiveGasPrice"], 16), int(receipt["gasUsed"], 16)
    assert (price, used) == (GWEI * 3 // 2, 21_000)
    assert chain.gas_balance_wei(wallet.address) == 10**18 - 7 - used * price
    assert chain.gas_balance_wei(chain.stranger) == received + 7


def test_the_node_suggests_a_tip(chain: LocalChain) -> None:
    assert int(chain.rpc.call("eth_maxPriorityFeePerGas"), 16) >= 0
    assert int(chain.rpc.call("eth_gasPrice"), 16) > 0


# Receipts.


def test_a_receipt_names_its_block_and_its_place(wallet: Wallet) -> None:
    chain = wallet.chain
    hashes = [wallet.send(n) for n in range(2)]
    assert chain.rpc.call("eth_getTransactionReceipt", hashes[0]) is None
    assert chain.rpc.call("eth_getTransactionReceipt", UNKNOWN) is None
    chain.mine()
    head = header(chain)
    for index, tx_hash in enumerate(hashes):
        receipt = chain.receipt(tx_hash)
        assert receipt["transactionHash"] == tx_hash
        assert (receipt["blockHash"], receipt["blockNumber"]) == (head["hash"], head["number"])
        assert int(receipt["transactionIndex"], 16) == index
        assert int(receipt["cumulativeGasUsed"], 16) == (index + 1) * 21_000
        assert receipt["status"] == "0x1"
        told = chain.rpc.call("eth_getTransactionByHash", tx_hash)
        assert (told["blockHash"], told["nonce"]) == (head["hash"], hex(index))
    assert int(head["gasUsed"], 16) == 42_000


def test_a_reverted_transaction_pays_and_uses_its_nonce_and_leaves_nothing(wallet: Wallet) -> None:
    chain = wallet.chain
    data = create_data(chain, chain.stranger)
    tx_hash = wallet.send(0, to=chain.deployment.kernel, value=0, data=data, gas=450_000)
    chain.mine()
    receipt = chain.receipt(tx_hash)
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])
    spent = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert spent > 0
    assert chain.gas_balance_wei(wallet.address) == 10**18 - spent
    assert wallet.count() == 1
    assert chain.kernel("requesterNonces", chain.stranger) == 0


def test_a_limit_below_the_need_reverts_and_costs_the_limit(wallet: Wallet) -> None:
    chain = wallet.chain
    data = create_data(chain, wallet.address)
    tx_hash = wallet.send(0, to=chain.deployment.kernel, value=0, data=data, gas=100_000)
    chain.mine()
    receipt = chain.receipt(tx_hash)
    assert (receipt["status"], int(receipt["gasUsed"], 16)) == ("0x0", 100_000)
    assert chain.kernel("requesterNonces", wallet.address) == 0


def test_wei_sent_to_a_contract_comes_back_with_a_revert(wallet: Wallet) -> None:
    chain = wallet.chain
    tx_hash = wallet.send(0, to=chain.deployment.kernel, value=5, gas=100_000)
    chain.mine()
    assert chain.receipt(tx_hash)["status"] == "0x0"
    assert chain.gas_balance_wei(chain.deployment.kernel) == 0
