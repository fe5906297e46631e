"""An endpoint that answers for short ranges of blocks alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coordinator.chain.rpc.client import RpcRefusal
from tests.integration.bad_endpoint import Ask, Call, Tell


def taking_at_most(blocks: int) -> Tell:
    """Refuses logs of more than so many blocks at once, as public endpoints do."""

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return [
            RpcRefusal(-32602, f"query exceeds max block range {blocks}")
            if method == "eth_getLogs" and _length(params[0]) > blocks
            else answer
            for (method, params), answer in zip(calls, ask(url, calls), strict=True)
        ]

    return tell


def _length(wanted: dict[str, str]) -> int:
    if "blockHash" in wanted:
        return 1
    return int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1
