"""An endpoint with faults: the transport asks the real one and tells something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.abi import function_signature_to_4byte_selector

from coordinator.chain.networks import AGGREGATOR
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.domain.address import checksummed

Call = tuple[str, Sequence[Any]]
Ask = Callable[[str, Sequence[Call]], list[Any]]
Tell = Callable[[str, Sequence[Call], Ask], list[Any]]

HEADER_NOT_FOUND = RpcRefusal(-32000, "header not found")
INTERNAL_ERROR = RpcRefusal(-32603, "Internal error")


class BadEndpoint:
    """What stands between one ``Rpc`` and its endpoints until it is healed.

    It sees what an aggregator is asked call by call, and what it tells of each is put together;
    not ``unpacked``, it sees requests as they are sent.
    """

    def __init__(
        self, rpc: Rpc, patch: pytest.MonkeyPatch, tell: Tell, *, unpacked: bool = True
    ) -> None:
        self._unpacked = unpacked
        self._ask: Ask = rpc._post
        self._tell: Tell | None = tell
        patch.setattr(rpc, "_post", self._post)

    def heal(self) -> None:
        self._tell = None

    def _post(self, url: str, calls: Sequence[Call]) -> list[Any]:
        if self._tell is None:
            return self._ask(url, calls)
        if not self._unpacked:
            return self._tell(url, calls, self._ask)
        parts = [_unpacked(call) for call in calls]
        told = iter(self._tell(url, list(chain.from_iterable(parts)), self._ask))
        return [
            _packed(list(islice(told, len(part)))) if _is_aggregate(call) else next(told)
            for call, part in zip(calls, parts, strict=True)
        ]


def _is_aggregate(call: Call) -> bool:
    method, params = call
    return method == "eth_call" and params[0]["to"] == AGGREGATOR


def _unpacked(call: Call) -> list[Call]:
    """The calls within one of the aggregator, as they would be made one by one."""
    if not _is_aggregate(call):
        return [call]
    (request, at), balance = call[1], function_signature_to_4byte_selector("getEthBalance(address)")
    (wanted,) = decode(["(address,bool,bytes)[]"], bytes.fromhex(request["data"][10:]))
    return [
        ("eth_getBalance", ["0x" + data[-20:].hex(), at])
        if to.lower() == AGGREGATOR.lower() and data.startswith(balance)
        else ("eth_call", [{"to": checksummed(to), "data": "0x" + data.hex()}, at])
        for to, _, data in wanted
    ]


def _packed(answers: list[Any]) -> Any:
    """What the aggregator would answer; whatever no contract could is the whole answer."""
    results = []
    for answer in answers:
        if isinstance(answer, RpcRefusal):
            results.append((False, b""))
            continue
        try:
            data = bytes.fromhex(answer[2:].rjust(-len(answer[2:]) % 2 + len(answer[2:]), "0"))
        except (TypeError, ValueError):
            return answer
        results.append((True, data.rjust(32, b"\0") if data and len(data) < 32 else data))
    return "0x" + encode(["(bool,bytes)[]"], [results]).hex()


def instead(method: str, answer: Any) -> Tell:
    """Tell ``answer`` wherever ``method`` was asked."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        answers = ask(url, calls)
        return [
            answer if asked == method else real
            for (asked, _), real in zip(calls, answers, strict=True)
        ]

    return tell


def alone(method: str, answer: Any) -> Tell:
    """Tell ``answer`` where ``method`` was asked by itself, outside of a batch."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return [answer] if [asked for asked, _ in calls] == [method] else ask(url, calls)

    return tell


def while_planning(act: Callable[[], object]) -> Tell:
    """Let ``act`` happen once, before a contract tells whether it would accept our next call."""
    waiting = [act]

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        planned = [m for m, params in calls if m == "eth_call" and "from" in params[0]]
        if waiting and planned:
            waiting.pop()()
        return ask(url, calls)

    return tell
