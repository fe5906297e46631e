"""An endpoint with faults: the transport asks the real one and tells something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coordinator.chain.rpc.client import Rpc, RpcRefusal

Call = tuple[str, Sequence[Any]]
Ask = Callable[[str, Sequence[Call]], list[Any]]
Tell = Callable[[str, Sequence[Call], Ask], list[Any]]

HEADER_NOT_FOUND = RpcRefusal(-32000, "header not found")
INTERNAL_ERROR = RpcRefusal(-32603, "Internal error")


class BadEndpoint:
    """What stands between one ``Rpc`` and its endpoints until it is healed."""

    def __init__(self, rpc: Rpc, patch: pytest.MonkeyPatch, tell: Tell) -> None:
        self._ask: Ask = rpc._post
        self._tell: Tell | None = tell
        patch.setattr(rpc, "_post", self._post)

    def heal(self) -> None:
        self._tell = None

    def _post(self, url: str, calls: Sequence[Call]) -> list[Any]:
        if self._tell is None:
            return self._ask(url, calls)
        return self._tell(url, calls, self._ask)


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
