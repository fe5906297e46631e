"""The ABI of ACTP's kernel and vault."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from coordinator.chain.abi import Abi


@cache
def kernel_abi() -> Abi:
    return Abi("ACTPKernel")


@cache
def vault_abi() -> Abi:
    return Abi("EscrowVault")


def contract_abis() -> Sequence[Abi]:
    """The contracts whose errors a revert may name."""
    return kernel_abi(), vault_abi()
