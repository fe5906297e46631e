"""What the coordinator relies on in a node, asserted alike of Anvil and of the simulated node.

Where a test says ``strict``, real nodes and the simulated one keep to a rule that Anvil does not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from coordinator.chain.abi import kernel_abi, revert_reason, token_abi
from coordinator.chain.rpc import RpcRefusal
from coordinator.chain.send_answers import classify
from coordinator.chain.signers import Signer, address_of_key
from coordinator.chain.simulated import SimulatedRpc
from coordinator.domain.address import keccak256
from coordinator.domain.ports import Sent
from tests.integration.chains import CHAINS, open_chain
from tests.integration.local_chain import LocalChain

GWEI = 10**9
UNKNOWN = "0x" + "ab" * 32
DAY = 86_400


@pytest.fixture(scope="module", params=CHAINS)
def _opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalChain]:
    with open_chain(request.param, tmp_path_factory.mktemp("deployments")) as chain:
        yield chain


@pytest.fixture
def chain(_opened: LocalChain) -> Iterator[LocalChain]:
    """Blocks are held."""
    _opened.hold_blocks()
    yield _opened
    _opened.reset()


def strict(chain: LocalChain, why: str) -> None:
    """Skip on Anvil, whose pool is laxer than a real node's."""
    if not isinstance(chain.rpc, SimulatedRpc):
        pytest.skip(f"Anvil: {why}")


class Wallet:
    """A funded account whose key the test has."""

    def __init__(self, chain: LocalChain, wei: int = 10**18) -> None:
        self.chain = chain
        key = secrets.token_bytes(32)
        self.address = address_of_key(key)
        self._signer = Signer(self.address, key)
        chain.rpc.call("anvil_setBalance", self.address, hex(wei))

    def raw(self, nonce: int, **fields: Any) -> str:
        transaction = {
            "type": 2,
            "chainId": self.chain.deployment.chain_id,
            "nonce": nonce,
            "to": self.chain.stranger,
            "value": 1,
            "data": "0x",
            "gas": 21_000,
            "maxFeePerGas": 2 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        }
        return self._signer.sign_raw(transaction | fields)

    def send(self, nonce: int, **fields: Any) -> Any:
        """The node's answer: a hash, or what its refusal proves."""
        return self.send_raw(self.raw(nonce, **fields))

    def send_raw(self, raw: str) -> Any:
        (answer,) = self.chain.rpc.send([("eth_sendRawTransaction", [raw])])
        return classify(answer.message).sent if isinstance(answer, RpcRefusal) else answer

    def count(self, at: Any = "latest") -> int:
        return int(self.chain.rpc.call("eth_getTransactionCount", self.address, at), 16)


@pytest.fixture
def wallet(chain: LocalChain) -> Wallet:
    return Wallet(chain)


def refusal(chain: LocalChain, method: str, *params: Any) -> RpcRefusal:
    (answer,) = chain.rpc.batch([(method, params)])
    assert isinstance(answer, RpcRefusal), answer
    return answer


def header(chain: LocalChain, at: Any = "latest") -> dict[str, Any]:
    found: dict[str, Any] = chain.rpc.call("eth_getBlockByNumber", at, False)
    return found


def mined(chain: LocalChain, tx_hash: str) -> bool:
    return chain.rpc.call("eth_getTransactionReceipt", tx_hash) is not None


def hash_of(raw: str) -> str:
    return "0x" + keccak256(bytes.fromhex(raw[2:])).hex()


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
    assert wallet.send(0, value=2, maxFeePerGas=fee) is Sent.NONCE_USED
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
    assert said is Sent.NONCE_USED
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


def create_data(chain: LocalChain, requester: str, *, amount: int = 25_000_000) -> str:
    terms = (amount, chain.time + DAY, 3600, bytes(32), 0, 0)
    return kernel_abi().call("createTransaction", chain.provider, requester, *terms)


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


# Blocks and logs.


def test_blocks_are_found_by_number_hash_and_tag(chain: LocalChain) -> None:
    chain.mine(3)
    head, genesis = header(chain), header(chain, "0x0")
    assert int(head["number"], 16) == chain.height
    before = header(chain, hex(chain.height - 1))
    assert head["parentHash"] == before["hash"]
    assert int(head["timestamp"], 16) >= int(before["timestamp"], 16)
    assert chain.rpc.call("eth_getBlockByHash", head["hash"], False) == head
    assert chain.rpc.call("eth_getBlockByHash", UNKNOWN, False) is None
    assert chain.rpc.call("eth_getBlockByNumber", hex(chain.height + 1), False) is None
    assert header(chain, "earliest")["hash"] == genesis["hash"]


def test_safe_and_finalized_trail_the_head(chain: LocalChain) -> None:
    chain.mine(100)
    head = chain.height
    assert int(header(chain, "safe")["number"], 16) == head - 32
    assert int(header(chain, "finalized")["number"], 16) == head - 64


def _mint(chain: LocalChain, to: str, units: int) -> str:
    return chain.token_admin("mint", to, units)


def _logs(chain: LocalChain, **wanted: Any) -> list[tuple[str, int]]:
    """(transaction, data as a number) of Circle's transfers."""
    transfer = token_abi().topic("Transfer")
    asked = {"address": chain.deployment.usdc, "topics": [transfer]} | wanted
    return [
        (log["transactionHash"], int(log["data"], 16))
        for log in chain.rpc.call("eth_getLogs", asked)
    ]


def _padded(account: str) -> str:
    return "0x" + account[2:].lower().rjust(64, "0")


def test_logs_are_found_by_range_and_by_hash_in_order(chain: LocalChain) -> None:
    first, second = _mint(chain, chain.payee, 1), _mint(chain, chain.stranger, 2)
    chain.mine()
    low = chain.height
    third = _mint(chain, chain.payee, 3)
    chain.mine(2)

    span = {"fromBlock": hex(low), "toBlock": hex(low + 1)}
    assert _logs(chain, **span) == [(first, 1), (second, 2), (third, 3)]
    assert _logs(chain, fromBlock=hex(low + 1), toBlock=hex(low + 1)) == [(third, 3)]
    assert _logs(chain, fromBlock=hex(low), toBlock="latest") == _logs(chain, **span)
    assert _logs(chain, fromBlock=hex(low + 2), toBlock=hex(low + 2)) == []
    block = header(chain, hex(low))
    assert _logs(chain, blockHash=block["hash"]) == [(first, 1), (second, 2)]
    assert refusal(chain, "eth_getLogs", {"blockHash": UNKNOWN}).code < 0

    transfer = token_abi().topic("Transfer")
    to_payee = {"topics": [transfer, None, _padded(chain.payee)]}
    assert _logs(chain, **to_payee, **span) == [(first, 1), (third, 3)]
    either = {"topics": [transfer, None, [_padded(chain.payee), _padded(chain.stranger)]]}
    assert _logs(chain, **either, **span) == _logs(chain, **span)
    assert _logs(chain, topics=[transfer, _padded(chain.payee)], **span) == []
    assert _logs(chain, address=chain.deployment.kernel, **span) == []


def test_a_log_names_its_block_and_place_and_is_the_receipts(chain: LocalChain) -> None:
    hashes = [_mint(chain, chain.payee, n) for n in (1, 2)]
    chain.mine()
    head = header(chain)
    logs = chain.rpc.call("eth_getLogs", {"fromBlock": head["number"], "toBlock": head["number"]})
    assert [int(log["logIndex"], 16) for log in logs] == [0, 1, 2, 3]
    assert [log["transactionHash"] for log in logs] == [hashes[0]] * 2 + [hashes[1]] * 2
    assert {(log["blockHash"], log["blockNumber"]) for log in logs} == {
        (head["hash"], head["number"])
    }
    assert {log["blockTimestamp"] for log in logs} == {head["timestamp"]}
    receipts = [log for tx_hash in hashes for log in chain.receipt(tx_hash)["logs"]]
    keys = ("address", "topics", "data", "logIndex", "blockHash", "transactionIndex")
    assert [[log[key] for key in keys] for log in logs] == [
        [log[key] for key in keys] for log in receipts
    ]


# State.


def test_the_state_of_every_block_can_be_read(wallet: Wallet) -> None:
    chain = wallet.chain
    start = chain.height
    data = token_abi().call("balanceOf", chain.payee)
    for nonce in range(3):
        _mint(chain, chain.payee, 10)
        wallet.send(nonce, value=1000)
        chain.mine()

    def read(at: Any) -> tuple[int, int]:
        units = chain.rpc.call("eth_call", {"to": chain.deployment.usdc, "data": data}, at)
        wei = chain.rpc.call("eth_getBalance", chain.stranger, at)
        return int(units, 16), int(wei, 16)

    now = [read(hex(start + n)) for n in range(4)]
    units, wei = now[0]
    assert now == [(units + 10 * n, wei + 1000 * n) for n in range(4)]
    assert read("latest") == now[-1]
    future = hex(chain.height + 1)
    refusal(chain, "eth_call", {"to": chain.deployment.usdc, "data": data}, future)
    refusal(chain, "eth_getBalance", chain.payee, future)


def test_a_refused_call_says_why_and_changes_nothing(chain: LocalChain) -> None:
    call = {"from": chain.stranger, "to": chain.deployment.kernel}
    data = create_data(chain, chain.payee)
    said = refusal(chain, "eth_call", call | {"data": data}, "latest")
    assert said.code == 3
    assert said.message == "execution reverted: Requester mismatch"
    assert said.data.startswith("0x08c379a0")
    assert revert_reason(said) == "Requester mismatch"
    fine = call | {"data": create_data(chain, chain.stranger)}
    assert len(chain.rpc.call("eth_call", fine, "latest")) == 66
    assert chain.kernel("requesterNonces", chain.stranger) == 0


def test_a_call_without_a_function_or_a_contract(chain: LocalChain) -> None:
    kernel = chain.deployment.kernel
    said = refusal(chain, "eth_call", {"to": kernel, "data": "0x12345678"}, "latest")
    assert (said.code, said.data or "0x") == (3, "0x")
    short = kernel_abi().call("requesterNonces", chain.payee)[:-2]
    assert refusal(chain, "eth_call", {"to": kernel, "data": short}, "latest").code == 3
    assert chain.rpc.call("eth_call", {"to": chain.payee, "data": "0x12345678"}, "latest") == "0x"
    assert chain.rpc.call("eth_getCode", chain.payee, "latest") == "0x"
    assert chain.rpc.call("eth_getCode", kernel, "latest") != "0x"


def test_a_method_that_is_none_is_refused(chain: LocalChain) -> None:
    assert refusal(chain, "eth_makeMoney").code == -32601


def test_only_an_impersonated_account_is_sent_for(wallet: Wallet) -> None:
    chain = wallet.chain
    fields = {"from": wallet.address, "to": chain.payee, "value": "0x5", "gas": "0x5208"}
    fields |= {"maxFeePerGas": hex(2 * GWEI), "maxPriorityFeePerGas": hex(GWEI)}
    assert refusal(chain, "eth_sendTransaction", fields).code < 0
    with chain.as_account(wallet.address):
        tx_hash = chain.rpc.call("eth_sendTransaction", fields)
    refusal(chain, "eth_sendTransaction", fields | {"value": "0x6"})
    chain.mine()
    assert chain.receipt(tx_hash)["from"].lower() == wallet.address.lower()
    assert wallet.count() == 1


# Reorganisations.


def test_a_reorg_loses_transactions_and_takes_their_effects_back(wallet: Wallet) -> None:
    chain = wallet.chain
    kept, kept_mint = wallet.send(0), _mint(chain, chain.payee, 1)
    chain.mine()
    lost, lost_mint = wallet.send(1), _mint(chain, chain.payee, 10)
    chain.mine()
    before = [header(chain, hex(chain.height - back)) for back in (1, 0)]
    units = chain.token("balanceOf", chain.payee)

    chain.rpc.call("anvil_reorg", 1, [])

    after = [header(chain, hex(chain.height - back)) for back in (1, 0)]
    assert [h["number"] for h in after] == [h["number"] for h in before]
    assert after[0] == before[0]
    assert after[1]["hash"] != before[1]["hash"]
    assert after[1]["parentHash"] == before[0]["hash"]
    assert mined(chain, kept) and mined(chain, kept_mint)
    assert not mined(chain, lost) and not mined(chain, lost_mint)
    assert chain.rpc.call("eth_getTransactionByHash", lost) is None
    assert (wallet.count(), wallet.count("pending")) == (1, 1)
    assert chain.token("balanceOf", chain.payee) == units - 10
    refusal(chain, "eth_getLogs", {"blockHash": before[1]["hash"]})
    assert _logs(chain, fromBlock=before[0]["number"], toBlock="latest") == [(kept_mint, 1)]
    assert wallet.send(1) == lost
    chain.mine()
    assert mined(chain, lost)


def test_a_reorg_moves_a_transaction_into_another_block(wallet: Wallet) -> None:
    chain = wallet.chain
    raw = wallet.raw(0, value=9)
    tx_hash = wallet.send_raw(raw)
    chain.mine(3)
    old = chain.receipt(tx_hash)
    chain.rpc.call("anvil_reorg", 3, [[raw, 2]])
    new = chain.receipt(tx_hash)
    assert int(new["blockNumber"], 16) == int(old["blockNumber"], 16) + 2 == chain.height
    assert new["blockHash"] == header(chain)["hash"] != old["blockHash"]
    assert wallet.count(old["blockNumber"]) == 0
    assert wallet.count() == 1


def test_a_reorg_puts_another_transaction_on_the_nonce(wallet: Wallet) -> None:
    chain = wallet.chain
    ours, theirs = wallet.raw(0), wallet.raw(0, value=77)
    wallet.send_raw(ours)
    chain.mine()
    chain.rpc.call("anvil_reorg", 1, [[theirs, 0]])
    assert not mined(chain, hash_of(ours))
    assert mined(chain, hash_of(theirs))
    assert wallet.count() == 1
    assert wallet.send_raw(ours) is Sent.NONCE_USED


def test_a_reorg_turns_a_success_into_a_revert(chain: LocalChain) -> None:
    token = chain.deployment.usdc
    _mint(chain, chain.stranger, 5)
    chain.mine()
    units = chain.token("balanceOf", chain.stranger)
    owner = Wallet(chain)
    grant = token_abi().call("transfer", owner.address, 5)
    granted = chain.send(chain.stranger, token, grant)
    chain.mine()
    raw = owner.raw(
        0, to=token, value=0, data=token_abi().call("transfer", chain.payee, 5), gas=100_000
    )
    owner.send_raw(raw)
    chain.mine()
    assert chain.receipt(hash_of(raw))["status"] == "0x1"
    chain.rpc.call("anvil_reorg", 2, [[raw, 1]])
    assert not mined(chain, granted)
    assert chain.receipt(hash_of(raw))["status"] == "0x0"
    assert chain.token("balanceOf", chain.stranger) == units


def test_a_rollback_makes_the_chain_shorter(wallet: Wallet) -> None:
    chain = wallet.chain
    start = header(chain)
    tx_hash = wallet.send(0)
    chain.mine(4)
    chain.rpc.call("anvil_rollback", 4)
    assert header(chain)["hash"] == start["hash"]
    assert not mined(chain, tx_hash)
    assert wallet.count() == 0


def test_a_snapshot_is_come_back_to_once(wallet: Wallet) -> None:
    chain = wallet.chain
    wallet.send(0)
    chain.mine()
    snapshot = chain.rpc.call("evm_snapshot")
    before, units = header(chain), chain.token("balanceOf", chain.payee)
    tx_hash = wallet.send(1)
    _mint(chain, chain.payee, 5)
    chain.mine(3)
    chain.rpc.call("anvil_setBalance", wallet.address, "0x1")
    assert chain.rpc.call("evm_revert", snapshot) is True
    assert header(chain) == before
    assert chain.token("balanceOf", chain.payee) == units
    assert chain.gas_balance_wei(wallet.address) > 1
    assert not mined(chain, tx_hash)
    assert wallet.count() == 1
    assert chain.rpc.call("evm_revert", snapshot) is False


def test_a_snapshot_is_come_back_to_after_a_reorg_below_it(wallet: Wallet) -> None:
    strict(wallet.chain, "it keeps no blocks that a reorg replaced")
    chain = wallet.chain
    hashes = []
    for nonce in range(3):
        hashes.append(wallet.send(nonce))
        chain.mine()
    before, snapshot = header(chain), chain.rpc.call("evm_snapshot")
    chain.rpc.call("anvil_reorg", 3, [])
    chain.mine(2)
    assert chain.rpc.call("evm_revert", snapshot) is True
    assert header(chain) == before
    assert all(mined(chain, tx_hash) for tx_hash in hashes)
    assert wallet.count() == 3


# Time.


def test_time_passes_as_told_and_never_goes_back(chain: LocalChain) -> None:
    start = chain.time
    chain.pass_time(DAY)
    assert DAY <= chain.time - start <= DAY + 10
    at = chain.time + 1000
    chain.rpc.call("evm_setNextBlockTimestamp", at)
    chain.mine()
    assert chain.time == at
    chain.mine()
    assert at <= chain.time <= at + 10
    refusal(chain, "evm_setNextBlockTimestamp", at - 1)


def test_blocks_are_mined_at_an_interval(chain: LocalChain) -> None:
    chain.rpc.call("anvil_mine", hex(4), hex(60))
    times = [int(header(chain, hex(chain.height - back))["timestamp"], 16) for back in (2, 1, 0)]
    assert [later - sooner for sooner, later in pairwise(times)] == [60, 60]


# The token, as Circle's.


def token_says(chain: LocalChain, sender: str, function: str, *args: Any) -> str | None:
    call = {"from": sender, "to": chain.deployment.usdc, "data": token_abi().call(function, *args)}
    (answer,) = chain.rpc.batch([("eth_call", [call, "latest"])])
    return revert_reason(answer) if isinstance(answer, RpcRefusal) else None


NOBODY = "0x" + "00" * 20


def test_the_token_refuses_in_its_own_words(chain: LocalChain) -> None:
    one, other, admin = chain.stranger, chain.payee, chain.admin
    much = 2**255
    rows = [
        (one, ("transfer", other, 10**15), "ERC20: transfer amount exceeds balance"),
        (one, ("transfer", NOBODY, 0), "ERC20: transfer to the zero address"),
        (one, ("transfer", other, 0), None),
        (one, ("transferFrom", other, one, 1), "ERC20: transfer amount exceeds allowance"),
        (one, ("approve", NOBODY, 1), "ERC20: approve to the zero address"),
        (one, ("mint", one, 1), "FiatToken: caller is not a minter"),
        (admin, ("mint", one, 0), "FiatToken: mint amount not greater than 0"),
        (admin, ("mint", NOBODY, 1), "FiatToken: mint to the zero address"),
        (admin, ("mint", one, much), "FiatTokenV2_2: Balance exceeds (2^255 - 1)"),
        (one, ("configureMinter", one, 1), "FiatToken: caller is not the masterMinter"),
        (one, ("blacklist", other), "Blacklistable: caller is not the blacklister"),
        (one, ("unBlacklist", other), "Blacklistable: caller is not the blacklister"),
        (one, ("pause",), "Pausable: caller is not the pauser"),
        (one, ("unpause",), "Pausable: caller is not the pauser"),
        (admin, ("pause",), None),
    ]
    assert [(*row[:2], token_says(chain, row[0], *row[1])) for row in rows] == rows


def test_a_paused_token_and_a_listed_account_move_nothing(chain: LocalChain) -> None:
    one, other, admin = chain.stranger, chain.payee, chain.admin
    chain.token_admin("blacklist", one)
    chain.mine()
    assert chain.token("isBlacklisted", one) is True
    listed = "Blacklistable: account is blacklisted"
    for sender, call in [
        (one, ("transfer", other, 0)),
        (other, ("transfer", one, 0)),
        (other, ("transferFrom", one, other, 0)),
        (admin, ("mint", one, 1)),
    ]:
        assert token_says(chain, sender, *call) == listed, call
    # Circle's version 2.2 lets a listed account approve, and be approved.
    assert token_says(chain, one, "approve", other, 5) is None
    assert token_says(chain, other, "approve", one, 5) is None
    chain.token_admin("pause")
    chain.mine()
    assert chain.token("paused") is True
    for sender, call in [
        (one, ("transfer", other, 0)),
        (other, ("approve", other, 0)),
        (admin, ("mint", other, 1)),
        (one, ("configureMinter", one, 1)),
    ]:
        assert token_says(chain, sender, *call) == "Pausable: paused", call
    chain.token_admin("unpause")
    chain.token_admin("unBlacklist", one)
    chain.mine()
    assert token_says(chain, one, "transfer", other, 0) is None


def test_the_token_tells_what_it_is(chain: LocalChain) -> None:
    named = {name: chain.token(name) for name in ("name", "symbol", "version", "decimals")}
    assert named == {"name": "USDC", "symbol": "USDC", "version": "2", "decimals": 6}
    roles = {
        chain.token(role).lower() for role in ("owner", "pauser", "masterMinter", "blacklister")
    }
    assert roles == {chain.admin.lower()}
