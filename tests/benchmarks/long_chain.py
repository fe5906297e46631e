"""A chain that is made: the one escrow of a real chain, as often as wanted.

A local chain keeps the state of every block, which for 100,000 escrows takes more than 22 GB of
memory. This one goes on after such a chain, a hundred escrows in a block: logs stand on disk as
the bytes that are sent, states and balances are told as the contracts would tell them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.words import WORD_DIGITS

EACH_BLOCK: Final = 100
_BLOCK_SECONDS: Final = 2
# What every id and key begins with; it ends with the escrow's number.
_MARK: Final = "e5c20eed"
_NUMBER_DIGITS: Final = 8
_GET: Final = kernel_abi().call("getTransaction", "0x" + "00" * 32)[:10]
_REMAINING: Final = vault_abi().call("remaining", "0x" + "00" * 32)[:10]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The one escrow that is repeated, with what the node told of it and of its block.

    ``usdc`` is what its treasury had after the block, ``held_back`` how many blocks come later.
    """

    escrow_id: str
    escrow_key: str
    amount: int
    treasury: str
    usdc: int
    kernel: str
    vault: str
    token: str
    escrow: str
    header: Mapping[str, Any]
    logs: list[dict[str, Any]]
    escrows: int
    held_back: int

    @property
    def number(self) -> int:
        return int(self.header["number"], 16)


class LongChain:
    """Blocks after the seed's: numbers, hashes, headers, logs, and states of escrows."""

    def __init__(self, seed: Seed, logs: IO[bytes]) -> None:
        self.seed = seed
        self._file = logs
        self._reading = threading.Lock()
        whole = -(-seed.escrows // EACH_BLOCK)
        counts = [min(EACH_BLOCK, seed.escrows - n * EACH_BLOCK) for n in range(whole)]
        self._counts = counts + [1] * seed.held_back
        self._first = [0]
        for count in self._counts:
            self._first.append(self._first[-1] + count)
        self.head = seed.number + whole
        # By whether it is a transfer, then by block: where its logs begin and how long they are.
        self._places: tuple[list[tuple[int, int]], ...] = ([], [])
        self._transfer = token_abi().topic("Transfer")
        self._logs = [self._template(log) for log in seed.logs]
        for index in range(len(self._counts)):
            self._write(index)
        logs.flush()

    def grow(self) -> None:
        """Add the blocks that were held back."""
        self.head = self.seed.number + len(self._counts)

    def has(self, block_number: int) -> bool:
        return block_number > self.seed.number

    def hash(self, block_number: int) -> str:
        if block_number == self.seed.number:
            return str(self.seed.header["hash"])
        return "0x" + _hash("block", block_number)

    def header(self, block_number: int) -> dict[str, Any] | None:
        if block_number > self.head:
            return None
        return {
            **self.seed.header,
            "number": hex(block_number),
            "hash": self.hash(block_number),
            "parentHash": self.hash(block_number - 1),
            "timestamp": hex(self._time(block_number)),
        }

    def logs(self, first: int, last: int, wanted: set[bool]) -> bytes:
        """The logs of blocks [first, last] as JSON without brackets; ``wanted``: transfers?"""
        found = []
        spans = range(max(first, self.seed.number + 1), min(last, self.head) + 1)
        with self._reading:
            for number in spans:
                for transfers in sorted(wanted):
                    start, length = self._places[transfers][number - self.seed.number - 1]
                    self._file.seek(start)
                    found.append(self._file.read(length))
        return b",".join(part for part in found if part)

    def usdc(self, block_number: int) -> int:
        escrows = self._first[block_number - self.seed.number]
        return self.seed.usdc - escrows * self.seed.amount

    def call(self, to: str, data: str, block_number: int) -> str | None:
        """The result of a contract's read in hex digits; None where the node has to be asked."""
        argument = data[10:]
        if to.lower() == self.seed.token.lower() and data == token_abi().call(
            "balanceOf", self.seed.treasury
        ):
            return f"{self.usdc(block_number):064x}"
        index = self._index(argument, block_number)
        if index is None:
            return None
        if data[:10] == _GET and to.lower() == self.seed.kernel.lower():
            return self._escrow_as(index)
        if data[:10] == _REMAINING and to.lower() == self.seed.vault.lower():
            return f"{self.seed.amount:064x}"
        return None

    def _index(self, word: str, block_number: int) -> int | None:
        if len(word) != WORD_DIGITS or not word.startswith(_MARK):
            return None
        index = int(word[-_NUMBER_DIGITS:], 16)
        return index if index < self._first[block_number - self.seed.number] else None

    def _escrow_as(self, index: int) -> str:
        seed = self.seed
        ours = seed.escrow.replace(seed.escrow_id[2:], _id(index))
        return ours.replace(seed.escrow_key[2:], _key(index))[2:]

    def _time(self, block_number: int) -> int:
        began = int(self.seed.header["timestamp"], 16)
        return began + _BLOCK_SECONDS * (block_number - self.seed.number)

    def _template(self, log: dict[str, Any]) -> tuple[bool, str]:
        """Whether it is a transfer, and the log with %(names)s for what differs."""
        text = json.dumps({**log, "blockHash": "@bh", "blockNumber": "@bn"}, separators=(",", ":"))
        names = {seed_id: f"@{n}" for n, seed_id in enumerate(self._hashes())}
        for old, name in {
            self.seed.escrow_id[2:]: "@id",
            self.seed.escrow_key[2:]: "@key",
            log["blockTimestamp"]: "@at",
            **names,
        }.items():
            text = text.replace(old, name)
        text = text.replace(f'"logIndex":"{log["logIndex"]}"', '"logIndex":"@li"')
        index = log["transactionIndex"]
        text = text.replace(f'"transactionIndex":"{index}"', '"transactionIndex":"@ti"')
        text = text.replace("%", "%%")
        for name in ("bh", "bn", "id", "key", "at", "li", "ti", "0", "1"):
            text = text.replace(f"@{name}", f"%({name})s")
        return log["topics"][0] == self._transfer, text

    def _hashes(self) -> list[str]:
        return list(dict.fromkeys(log["transactionHash"] for log in self.seed.logs))

    def _write(self, block: int) -> None:
        number = self.seed.number + 1 + block
        parts: dict[bool, list[str]] = {False: [], True: []}
        shared = {
            "bh": self.hash(number),
            "bn": hex(number),
            "at": hex(self._time(number)),
        }
        for place in range(self._counts[block]):
            index = self._first[block] + place
            own = shared | {
                "id": _id(index),
                "key": _key(index),
                "0": "0x" + _hash("create", index),
                "1": "0x" + _hash("link", index),
            }
            for at, (is_transfer, text) in enumerate(self._logs):
                own["li"] = hex(place * len(self._logs) + at)
                own["ti"] = hex(2 * place + ("%(1)s" in text))
                parts[is_transfer].append(text % own)
        for is_transfer in (False, True):
            body = ",".join(parts[is_transfer]).encode()
            self._places[is_transfer].append((self._file.tell(), len(body)))
            self._file.write(body)


def _id(index: int) -> str:
    return _word("id", index)


def _key(index: int) -> str:
    return _word("key", index)


def _word(kind: str, index: int) -> str:
    length = WORD_DIGITS - len(_MARK) - _NUMBER_DIGITS
    return _MARK + _hash(kind, index)[:length] + f"{index:0{_NUMBER_DIGITS}x}"


def _hash(kind: str, number: int) -> str:
    return sha256(f"{kind} {number}".encode()).hexdigest()
