"""The contracts of a rail, as the reader and signer of an EVM chain need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.chain.abi import Abi
from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.rpc.client import Rpc


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
