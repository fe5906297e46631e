"""What the coordinator relies on in a node, asserted alike of Anvil and of the simulated node.

Blocks, logs, state, and the token.

Where a test says ``strict``, real nodes and the simulated one keep to a rule that Anvil does not.
"""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.chain.abi import revert_reason, token_abi
from coordinator.chain.actp.abi import contract_abis, kernel_abi
from coordinator.chain.rpc.client import RpcRefusal
from tests.integration.local_chain import LocalChain
from tests.integration.node_wallet import (
    GWEI,
    UNKNOWN,
    Wallet,
    create_data,
    header,
    mint,
    refusal,
    transfer_logs,
)


@pytest.fixture
def chain(held_chain: LocalChain) -> LocalChain:
    return held_chain


@pytest.fixture
def wallet(chain: LocalChain) -> Wallet:
    return Wallet(chain)


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


def _padded(account: str) -> str:
    return "0x" + account[2:].lower().rjust(64, "0")


def test_logs_are_found_by_range_and_by_hash_in_order(chain: LocalChain) -> None:
    first, second = mint(chain, chain.payee, 1), mint(chain, chain.stranger, 2)
    chain.mine()
    low = chain.height
    third = mint(chain, chain.payee, 3)
    chain.mine(2)

    span = {"fromBlock": hex(low), "toBlock": hex(low + 1)}
    assert transfer_logs(chain, **span) == [(first, 1), (second, 2), (third, 3)]
    assert transfer_logs(chain, fromBlock=hex(low + 1), toBlock=hex(low + 1)) == [(third, 3)]
    assert transfer_logs(chain, fromBlock=hex(low), toBlock="latest") == transfer_logs(
        chain, **span
    )
    assert transfer_logs(chain, fromBlock=hex(low + 2), toBlock=hex(low + 2)) == []
    block = header(chain, hex(low))
    assert transfer_logs(chain, blockHash=block["hash"]) == [(first, 1), (second, 2)]
    assert refusal(chain, "eth_getLogs", {"blockHash": UNKNOWN}).code < 0

    transfer = token_abi().topic("Transfer")
    to_payee = {"topics": [transfer, None, _padded(chain.payee)]}
    assert transfer_logs(chain, **to_payee, **span) == [(first, 1), (third, 3)]
    either = {"topics": [transfer, None, [_padded(chain.payee), _padded(chain.stranger)]]}
    assert transfer_logs(chain, **either, **span) == transfer_logs(chain, **span)
    assert transfer_logs(chain, topics=[transfer, _padded(chain.payee)], **span) == []
    assert transfer_logs(chain, address=chain.deployment.kernel, **span) == []


def test_a_log_names_its_block_and_place_and_is_the_receipts(chain: LocalChain) -> None:
    hashes = [mint(chain, chain.payee, n) for n in (1, 2)]
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
        mint(chain, chain.payee, 10)
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
    assert revert_reason(said, contract_abis()) == "Requester mismatch"
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


# The token, as Circle's.


def token_says(chain: LocalChain, sender: str, function: str, *args: Any) -> str | None:
    call = {"from": sender, "to": chain.deployment.usdc, "data": token_abi().call(function, *args)}
    (answer,) = chain.rpc.batch([("eth_call", [call, "latest"])])
    return revert_reason(answer, contract_abis()) if isinstance(answer, RpcRefusal) else None


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
