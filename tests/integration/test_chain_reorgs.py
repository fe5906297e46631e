"""What the coordinator relies on in a node, asserted alike of Anvil and of the simulated node.

Reorganisations, snapshots and time.

Where a test says ``strict``, real nodes and the simulated one keep to a rule that Anvil does not.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from coordinator.chain.abi import token_abi
from coordinator.domain.ports import Sent
from tests.integration.local_chain import LocalChain
from tests.integration.node_wallet import (
    DAY,
    Wallet,
    hash_of,
    header,
    mined,
    mint,
    refusal,
    strict,
    transfer_logs,
)


@pytest.fixture
def chain(held_chain: LocalChain) -> LocalChain:
    return held_chain


@pytest.fixture
def wallet(chain: LocalChain) -> Wallet:
    return Wallet(chain)


# Reorganisations.


def test_a_reorg_loses_transactions_and_takes_their_effects_back(wallet: Wallet) -> None:
    chain = wallet.chain
    kept, kept_mint = wallet.send(0), mint(chain, chain.payee, 1)
    chain.mine()
    lost, lost_mint = wallet.send(1), mint(chain, chain.payee, 10)
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
    assert transfer_logs(chain, fromBlock=before[0]["number"], toBlock="latest") == [(kept_mint, 1)]
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
    mint(chain, chain.stranger, 5)
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
    mint(chain, chain.payee, 5)
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
    # Anvil's clock goes on between two of them.
    assert all(60 <= later - sooner < 120 for sooner, later in pairwise(times))
