"""The contracts of a rail, as the reader and signer of an EVM chain need them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.chain.abi import Abi
from coordinator.chain.rpc.client import Rpc

ContractCall = tuple[str, str]
"""(address, call data)"""


@dataclass(frozen=True, slots=True)
class RailState:
    """The rail at one block: its count of the treasury's escrows, and why it takes none."""

    create_nonce: int
    trouble: str | None


class RailContracts(Protocol):
    """The contracts that the treasury pays through.

    ``spender`` is the one that pulls its USDC, ``abis`` name the errors of all. The answers to
    ``state_calls`` come in one batch with the treasury's own state, and ``state`` decodes them.
    ``check`` raises ConfigurationError for contracts that must not be paid.
    """

    @property
    def spender(self) -> str: ...
    def abis(self) -> Sequence[Abi]: ...
    def state_calls(self) -> Sequence[ContractCall]: ...
    def state(self, answers: Sequence[Any]) -> RailState: ...
    def check(self, rpc: Rpc) -> None: ...


@dataclass(frozen=True, slots=True)
class ContractReader:
    """Asks contracts; an answer is the result as hex, or the node's RpcRefusal."""

    rpc: Rpc

    @property
    def host(self) -> str:
        return self.rpc.current_host

    def ask(self, calls: Iterable[ContractCall], at: str) -> list[Any]:
        """The answers to ``calls`` after block ``at``, a number as hex or a tag, in one batch."""
        return self.rpc.batch([_eth_call(call, at) for call in calls])

    def ask_everywhere(self, call: ContractCall) -> list[tuple[Any, Any]]:
        """(number of its newest block, answer) of each endpoint that answers."""
        asked = [("eth_blockNumber", []), _eth_call(call, "latest")]
        return [(newest, answer) for newest, answer in self.rpc.everywhere(asked)]


def _eth_call(call: ContractCall, at: str) -> tuple[str, list[Any]]:
    to, data = call
    return "eth_call", [{"to": to, "data": data}, at]
