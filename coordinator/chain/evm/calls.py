"""Calls of contracts, which change nothing."""

from __future__ import annotations

from typing import Any

ContractCall = tuple[str, str]
"""(address, call data)"""


def eth_call(call: ContractCall, at: str) -> tuple[str, list[Any]]:
    """The request for the call's result after block ``at``, a number as hex or a tag."""
    to, data = call
    return "eth_call", [{"to": to, "data": data}, at]
