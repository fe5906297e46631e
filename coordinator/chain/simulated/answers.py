"""JSON-RPC objects for blocks, transactions, receipts and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.chain.simulated.blocks import Block
from coordinator.chain.simulated.contract import NOBODY, Log
from coordinator.chain.simulated.execution import Outcome
from coordinator.chain.simulated.transactions import Transaction

_TYPE: Final = "0x2"


def log_answer(
    log: Log, index: int, number: int, block_id: str, timestamp: int, tx_hash: str, tx_index: int
) -> dict[str, Any]:
    return {
        "address": log.address,
        "topics": log.topics,
        "data": log.data,
        "blockNumber": hex(number),
        "blockHash": block_id,
        "blockTimestamp": hex(timestamp),
        "transactionHash": tx_hash,
        "transactionIndex": hex(tx_index),
        "logIndex": hex(index),
        "removed": False,
    }


def receipt_answer(
    tx: Transaction,
    outcome: Outcome,
    logs: Sequence[dict[str, Any]],
    gas_so_far: int,
    number: int,
    block_id: str,
    timestamp: int,
    tx_hash: str,
    tx_index: int,
) -> dict[str, Any]:
    """``gas_so_far`` counts the transaction itself too."""
    return {
        "type": _TYPE,
        "status": hex(outcome.succeeded),
        "transactionHash": tx_hash,
        "transactionIndex": hex(tx_index),
        "blockNumber": hex(number),
        "blockHash": block_id,
        "blockTimestamp": hex(timestamp),
        "from": tx.sender,
        "to": tx.to,
        "contractAddress": None,
        "gasUsed": hex(outcome.gas_used),
        "cumulativeGasUsed": hex(gas_so_far),
        "effectiveGasPrice": hex(outcome.price),
        "logs": logs,
    }


def receipt_copy(receipt: dict[str, Any]) -> dict[str, Any]:
    """One that a client may change."""
    return {**receipt, "logs": [log_copy(log) for log in receipt["logs"]]}


def log_copy(log: dict[str, Any]) -> dict[str, Any]:
    return {**log, "topics": [*log["topics"]]}


def transaction_answer(
    tx: Transaction, block: Block | None = None, index: int | None = None
) -> dict[str, Any]:
    """A transaction of a block, or one that waits."""
    return {
        "type": _TYPE,
        "hash": tx.hash,
        "chainId": hex(tx.chain_id),
        "nonce": hex(tx.nonce),
        "from": tx.sender,
        "to": tx.to,
        "value": hex(tx.value),
        "input": "0x" + tx.data.hex(),
        "gas": hex(tx.gas),
        "gasPrice": hex(tx.max_fee),
        "maxFeePerGas": hex(tx.max_fee),
        "maxPriorityFeePerGas": hex(tx.tip),
        "blockNumber": hex(block.number) if block else None,
        "blockHash": block.hash if block else None,
        "transactionIndex": hex(index) if index is not None else None,
    }


def block_answer(block: Block, *, full: bool) -> dict[str, Any]:
    """A block with its transactions' hashes, or with the transactions."""
    transactions: list[Any] = [
        transaction_answer(mined.tx, block, index) if full else mined.tx.hash
        for index, mined in enumerate(block.mined)
    ]
    return {
        "number": hex(block.number),
        "hash": block.hash,
        "parentHash": block.parent_hash,
        "timestamp": hex(block.timestamp),
        "baseFeePerGas": hex(block.base_fee),
        "gasUsed": hex(block.gas_used),
        "gasLimit": hex(block.gas_limit),
        "miner": NOBODY,
        "difficulty": "0x0",
        "extraData": "0x",
        "transactions": transactions,
    }
