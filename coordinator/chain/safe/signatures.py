"""Functions, events and errors of contracts, known by their signatures alone.

Their ABI files are under a licence of their own, and are not shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.grammar import parse

from coordinator.domain.address import keccak256


@dataclass(frozen=True)
class Signature:
    """A function, event or error such as ``transfer(address,uint256)``."""

    text: str

    @property
    def name(self) -> str:
        return self.text.partition("(")[0]

    @cached_property
    def topic(self) -> str:
        return "0x" + keccak256(self.text.encode()).hex()

    @cached_property
    def selector(self) -> bytes:
        return keccak256(self.text.encode())[:4]

    @cached_property
    def _types(self) -> list[str]:
        text = self.text.removeprefix(self.name)
        if text == "()":
            return []
        arguments = parse(text)
        return [component.to_type_str() for component in arguments.components]

    def call(self, *arguments: Any) -> bytes:
        """Encode a call; addresses are text, everything of bytes is bytes."""
        return self.selector + self.arguments(*arguments)

    def arguments(self, *arguments: Any) -> bytes:
        return encode(self._types, arguments)

    def decoded(self, data: bytes) -> tuple[Any, ...]:
        """Decode arguments, or what a function of such a signature was called with."""
        return tuple(decode(self._types, data))
