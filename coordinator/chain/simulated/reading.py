"""The node's answers to reads, by JSON-RPC method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from coordinator.chain.simulated.answers import (
    block_answer,
    log_copy,
    receipt_copy,
    transaction_answer,
)
from coordinator.chain.simulated.blocks import Block
from coordinator.chain.simulated.contract import NOBODY, Reverted
from coordinator.chain.simulated.execution import call
from coordinator.chain.simulated.genesis import ACCOUNTS, balance_key, nonce_key
from coordinator.chain.simulated.machine import Machine
from coordinator.chain.simulated.pool import Refused
from coordinator.chain.simulated.state import Readable

CLIENT_VERSION = "coordinator-simulated/1"
_INVALID_PARAMS = -32602
_REVERTED = 3


class Reading:
    """Answers about one machine; every answer is the caller's to change."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.methods: Mapping[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(machine.chain_id),
            "net_version": lambda: str(machine.chain_id),
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [account.lower() for account in ACCOUNTS],
            "eth_blockNumber": lambda: hex(machine.chain.head.number),
            "eth_gasPrice": lambda: hex(machine.next_base_fee() + machine.rules.tip_wei),
            "eth_maxPriorityFeePerGas": lambda: hex(machine.rules.tip_wei),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._balance,
            "eth_getCode": self._code,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "txpool_content": self._pool_content,
            "txpool_status": self._pool_status,
        }

    def _find(self, at: Any) -> Block | None:
        """The block of a number, a tag or a hash; ``pending`` is read as the latest."""
        chain = self._machine.chain
        if isinstance(at, dict):
            return chain.by_hash(str(at.get("blockHash")).lower())
        if at in ("latest", "pending", None):
            return chain.head
        if at == "earliest":
            return chain.block(0)
        if at in ("safe", "finalized"):
            epochs = 1 if at == "safe" else 2
            return chain.block(
                max(0, chain.head.number - epochs * self._machine.rules.epoch_blocks)
            )
        try:
            return chain.block(int(at, 16))
        except (TypeError, ValueError):
            raise Refused(f"invalid block {at!r}", _INVALID_PARAMS) from None

    def _state(self, at: Any) -> tuple[Block, Readable]:
        block = self._find(at)
        if block is None:
            raise Refused("header not found")
        chain, kept = self._machine.chain, self._machine.rules.states_kept
        if block is chain.head:
            return block, chain.state
        if kept is not None and chain.head.number - block.number >= kept:
            raise Refused(f"missing trie node: the state of block {block.number} is pruned")
        return block, chain.state.at(block.number)

    def _block_by_number(self, at: Any, full: bool = False) -> Any:
        block = self._find(at)
        return block_answer(block, full=full) if block else None

    def _block_by_hash(self, block_hash: str, full: bool = False) -> Any:
        block = self._machine.chain.by_hash(block_hash.lower())
        return block_answer(block, full=full) if block else None

    def _balance(self, account: str, at: Any = "latest") -> str:
        return hex(self._state(at)[1].get(balance_key(account.lower())))

    def _code(self, address: str, at: Any = "latest") -> str:
        """Something where a contract is; no bytecode runs here."""
        return "0xfe" if address.lower() in self._machine.rail.by_address else "0x"

    def _transaction_count(self, account: str, at: Any = "latest") -> str:
        account = account.lower()
        mined = self._state(at)[1].get(nonce_key(account))
        return hex(self._machine.pool.next_nonce(account, mined) if at == "pending" else mined)

    def _transaction(self, tx_hash: str) -> Any:
        found = self._machine.chain.mined(tx_hash.lower())
        if found is not None:
            block, mined = found
            return transaction_answer(mined.tx, block, block.mined.index(mined))
        waiting = self._machine.pool.get(tx_hash.lower())
        return transaction_answer(waiting) if waiting else None

    def _receipt(self, tx_hash: str) -> Any:
        found = self._machine.chain.mined(tx_hash.lower())
        return receipt_copy(found[1].receipt) if found else None

    def _call(
        self, asked: dict[str, Any], at: Any = "latest", _: Any = None, overrides: Any = None
    ) -> str:
        """Runs at the end of block ``at``; ``overrides`` may give its time."""
        block, state = self._state(at)
        time = (overrides or {}).get("time")
        try:
            result = call(
                self._machine.rail.by_address,
                state,
                sender=(asked.get("from") or NOBODY).lower(),
                to=(asked.get("to") or NOBODY).lower(),
                data=bytes.fromhex((asked.get("data") or asked.get("input") or "0x")[2:]),
                value=int(asked.get("value") or "0x0", 16),
                timestamp=int(time, 16) if time else block.timestamp,
            )
        except Reverted as refused:
            said = f": {refused.reason}" if refused.reason else ""
            raise Refused(f"execution reverted{said}", _REVERTED, refused.data) from None
        return "0x" + result.hex()

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        matches = _matcher(wanted)
        return [log_copy(log) for block in self._span(wanted) for log in block.logs if matches(log)]

    def _span(self, wanted: dict[str, Any]) -> Iterator[Block]:
        chain = self._machine.chain
        if block_hash := wanted.get("blockHash"):
            block = chain.by_hash(block_hash.lower())
            if block is None:
                raise Refused("unknown block")
            yield block
            return
        first, last = (
            _number(wanted.get(name), chain.head.number) for name in ("fromBlock", "toBlock")
        )
        if first > last:
            raise Refused("invalid block range params", _INVALID_PARAMS)
        yield from chain.span(first, last)

    def _fee_history(self, count: Any, newest: Any, percentiles: Any = ()) -> dict[str, Any]:
        last = self._find(newest)
        if last is None:
            raise Refused("header not found")
        wanted = int(count, 16) if isinstance(count, str) else int(count)
        blocks = self._machine.chain.span(last.number - wanted + 1, last.number)
        fees = [block.base_fee for block in blocks]
        fees.append(
            self._machine.rules.market.next_base_fee(last.base_fee, last.gas_used, last.gas_limit)
        )
        tip = hex(self._machine.rules.tip_wei)
        return {
            "oldestBlock": hex(blocks[0].number),
            "baseFeePerGas": [hex(fee) for fee in fees],
            "gasUsedRatio": [block.gas_used / block.gas_limit for block in blocks],
            "reward": [[tip] * len(percentiles or ()) for _ in blocks],
        }

    def _pool_content(self) -> dict[str, Any]:
        parts = {}
        found = self._machine.pool.content(self._machine.nonce)
        for name, transactions in zip(("pending", "queued"), found, strict=True):
            by_sender: dict[str, dict[str, Any]] = {}
            for tx in transactions:
                by_sender.setdefault(tx.sender, {})[str(tx.nonce)] = transaction_answer(tx)
            parts[name] = by_sender
        return parts

    def _pool_status(self) -> dict[str, str]:
        pending, queued = self._machine.pool.content(self._machine.nonce)
        return {"pending": hex(len(pending)), "queued": hex(len(queued))}


def _number(at: Any, head: int) -> int:
    if at in ("latest", "pending", None):
        return head
    if at == "earliest":
        return 0
    return int(at, 16)


def _matcher(wanted: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    """Whether a log is wanted: by its address, and by topics, where None takes any."""
    addresses = _choices(wanted.get("address"))
    topics = [_choices(topic) for topic in wanted.get("topics") or ()]

    def matches(log: dict[str, Any]) -> bool:
        if addresses is not None and log["address"] not in addresses:
            return False
        found = log["topics"]
        return len(found) >= len(topics) and all(
            wanted is None or topic in wanted for wanted, topic in zip(topics, found, strict=False)
        )

    return matches


def _choices(wanted: str | list[str] | None) -> set[str] | None:
    if wanted is None or wanted == []:
        return None
    return {one.lower() for one in ([wanted] if isinstance(wanted, str) else wanted)}
