"""Calls of contracts, which change nothing."""

from __future__ import annotations

from typing import Any

from coordinator.domain.chain.events import Block

ContractCall = tuple[str, str]
"""(address, call data)"""


State = str | dict[str, Any]
"""After which block: a number as hex, a tag, or a hash."""


def of_hash(block: Block) -> State:
    """The state after this block, of a node that has it on its chain (EIP-1898)."""
    return {"blockHash": block.hash, "requireCanonical": True}


def eth_call(call: ContractCall, at: State) -> tuple[str, list[Any]]:
    """The request for the call's result after block ``at``."""
    to, data = call
    return "eth_call", [{"to": to, "data": data}, at]
