"""Logs of a span of blocks, each once, in order and with its block's time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from coordinator.chain.abi import number, word
from coordinator.chain.evm.answers import block_of, logs_of
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.chain.events import Block, ChainEvent, EventKind
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Unlinked

Log = dict[str, Any]

# No block has room for so many logs.
_INDEX_MAX: Final = 2**31 - 1
# The logs of a block say the same numbers, and those of all blocks the same places.
_number: Final = lru_cache(maxsize=4_096)(number)
_place: Final = itemgetter("place")


@dataclass(frozen=True, slots=True)
class LogReader:
    """Reads logs; what can't be decoded raises as it is, see ``answers.decoded``."""

    rpc: Rpc

    @property
    def host(self) -> str:
        return self.rpc.current_host

    def by_span(self, filters: Sequence[Log], *, after: int, to: int) -> tuple[Block, list[Log]]:
        """Block ``to``, and the logs of the blocks up to it, all in one batch."""
        header, *logs = self._read_span(filters, after, to)
        return block_of(header), logs

    def by_linked_span(
        self, filters: Sequence[Log], *, after: int, after_hash: str, to: int
    ) -> tuple[Block, list[Log]]:
        """As ``by_span``, near the head; Unlinked unless block ``after`` is ``after_hash``.

        ChainUnavailable for a log of a block that is not the chain's at its number.
        """
        header, *logs = self._read_span(filters, after, to)
        known = {header["number"]: header}
        wanted = sorted({hex(after), *(log["blockNumber"] for log in logs)} - known.keys())
        headers = self.rpc.batch([("eth_getBlockByNumber", [n, False]) for n in wanted])
        known |= zip(wanted, headers, strict=True)
        if not _is_block(known[hex(after)], after_hash):
            raise Unlinked(f"block {after} is not the one that was read last")
        for log in logs:
            if not _is_block(known[log["blockNumber"]], log["blockHash"]):
                block = number(log["blockNumber"])
                raise ChainUnavailable(f"a log's block {block} is not on the chain any more")
        return block_of(header), logs

    def _read_span(self, filters: Sequence[Log], after: int, to: int) -> list[Any]:
        """Read the header of block ``to`` and then the logs of the blocks up to it."""
        span = {"fromBlock": hex(after + 1), "toBlock": hex(to)}
        header, *answers = self.rpc.batch(
            [
                ("eth_getBlockByNumber", [hex(to), False]),
                *(("eth_getLogs", [{**item, **span}]) for item in filters),
            ]
        )
        if not isinstance(header, dict):
            raise ChainUnavailable(f"the endpoint does not have block {to} yet")
        return [header, *logs_of(answers, f"blocks {after + 1} to {to}")]

    def told_after(self, filters: Sequence[Log], block_number: int) -> list[Log] | None:
        """The logs of later blocks, in no order; None from a node that refuses.

        The block itself is asked for, too: some nodes refuse to begin above their newest block.
        """
        span = {"fromBlock": hex(block_number), "toBlock": "latest"}
        answers = self.rpc.batch([("eth_getLogs", [{**item, **span}]) for item in filters])
        if not all(isinstance(answer, list) for answer in answers):
            return None
        return [
            log for answer in answers for log in answer if number(log["blockNumber"]) > block_number
        ]

    def block(self, block_number: int) -> Block:
        header = self.rpc.call("eth_getBlockByNumber", hex(block_number), False)
        if not isinstance(header, dict):
            raise ChainUnavailable(f"the endpoint does not have block {block_number}")
        return block_of(header)

    def by_block(
        self, filters: Sequence[Log], *, after: int, after_hash: str, to: int
    ) -> tuple[Block, list[Log]]:
        """Block ``to``, the one after ``after``, and its logs by its hash."""
        header = self.rpc.call("eth_getBlockByNumber", hex(to), False)
        if not isinstance(header, dict) or header["parentHash"] != after_hash:
            raise Unlinked(f"block {to} does not follow block {after} that was read last")
        asked = [("eth_getLogs", [{**item, "blockHash": header["hash"]}]) for item in filters]
        return block_of(header), logs_of(self.rpc.batch(asked), f"block {to}")

    def of_transactions(self, blocks: Mapping[str, str]) -> Iterator[Log]:
        """All logs of transactions, by hash; ``blocks`` has the hash of each one's block."""
        for tx_hash, block_hash in sorted(blocks.items()):
            receipt = self.rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is None or receipt["blockHash"] != block_hash:
                raise ChainUnavailable(f"the endpoint does not have the receipt of {tx_hash}")
            yield from receipt["logs"]

    def ordered(self, logs: Sequence[Log], *, after: int, to: int) -> list[Log]:
        """Each log once, in the chain's order, with its ``place`` and its block's time, ``at``.

        ChainUnavailable for one outside of the blocks beyond ``after`` up to ``to``.
        """
        for log in logs:
            block, index = log["place"] = _number(log["blockNumber"]), _number(log["logIndex"])
            if not after < block <= to or index > _INDEX_MAX:
                raise ChainUnavailable(f"the endpoint tells a log outside of {after + 1} to {to}")
        self._add_times(logs)
        unique = {(log["blockHash"], log["logIndex"]): log for log in logs}
        return sorted(unique.values(), key=_place)

    def _add_times(self, logs: Sequence[Log]) -> None:
        unknown = sorted({log["blockNumber"] for log in logs if not log.get("blockTimestamp")})
        headers = self.rpc.batch([("eth_getBlockByNumber", [n, False]) for n in unknown])
        times = {}
        for block, header in zip(unknown, headers, strict=True):
            if not isinstance(header, dict):
                raise ChainUnavailable(f"the endpoint does not have block {int(block, 16)}")
            times[block] = number(header["timestamp"])
        for log in logs:
            stamp = log.get("blockTimestamp")
            log["at"] = _number(stamp) if stamp else times[log["blockNumber"]]


def _is_block(header: Any, block_hash: str) -> bool:
    return isinstance(header, dict) and header["hash"] == block_hash


def event_of(kind: EventKind, log: Log, **values: Any) -> ChainEvent:
    """An event with its place on the chain from ``log``, one of ``LogReader.ordered``."""
    block_number, log_index = log["place"]
    return ChainEvent(
        kind=kind,
        block_number=block_number,
        block_hash=word(log["blockHash"]),
        log_index=log_index,
        tx_hash=word(log["transactionHash"]),
        at=log["at"],
        **values,
    )


def account_topic(account: str) -> str:
    """An address as an indexed argument."""
    return "0x" + account[2:].lower().rjust(64, "0")


def account_topics(accounts: Iterable[str]) -> list[str]:
    """Any of the addresses as an indexed argument."""
    return sorted({account_topic(account) for account in accounts})
