"""ACTP's kernel and vault, as the reader and signer of an EVM chain need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.chain.abi import Abi, uint
from coordinator.chain.actp.abi import contract_abis, kernel_abi
from coordinator.chain.actp.checks import check_contracts
from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.evm.contracts import RailState
from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Rpc


@dataclass(frozen=True, slots=True)
class ActpContracts:
    """One deployment, and the treasury that pays through it."""

    deployment: Deployment
    treasury: str

    @property
    def spender(self) -> str:
        """The vault, which pulls the treasury's USDC."""
        return self.deployment.vault

    def abis(self) -> Sequence[Abi]:
        return contract_abis()

    def state_calls(self) -> Sequence[ContractCall]:
        kernel, encode = self.deployment.kernel, kernel_abi().call
        return [
            (kernel, encode("requesterNonces", self.treasury)),
            (kernel, encode("paused")),
            (kernel, encode("approvedEscrowVaults", self.deployment.vault)),
        ]

    def state(self, answers: Sequence[Any]) -> RailState:
        """Decode the answers to ``state_calls``."""
        creates, paused, listed = map(uint, answers)
        trouble = "the kernel is paused" if paused else None
        if not listed:
            trouble = "the kernel does not accept the vault"
        return RailState(creates, trouble)

    def check(self, rpc: Rpc) -> None:
        check_contracts(rpc, self.deployment)
