"""What an endpoint and contracts must be before anything is signed."""

from __future__ import annotations

from typing import Any

from coordinator.chain.abi import kernel_abi, quantity, token_abi, vault_abi
from coordinator.chain.networks import Deployment, Network
from coordinator.chain.rpc import Rpc, RpcRefusal
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.usdc import DECIMALS


def check_endpoint(rpc: Rpc, network: Network, chain_id: int) -> None:
    """Refuse an endpoint of another chain; for ``anvil``, one that is not a local Anvil."""
    answered, version = rpc.batch([("eth_chainId", []), ("web3_clientVersion", [])])
    said = quantity(answered)
    if said not in network.chain_ids or said != chain_id:
        raise ConfigurationError(
            f"COORDINATOR_RPC_URL is an endpoint of chain {said}; {network.name} with these"
            f" contracts is chain {chain_id}: nothing was signed"
        )
    if network.local and not network.simulated:
        if not rpc.loopback:
            raise ConfigurationError("COORDINATOR_NETWORK=anvil takes only a loopback endpoint")
        if "anvil" not in str(version).lower():
            raise ConfigurationError(
                "COORDINATOR_NETWORK=anvil needs an Anvil node; this endpoint says"
                f" {str(version)[:60]!r}"
            )


def check_contracts(rpc: Rpc, d: Deployment) -> None:
    """Refuse contracts that do not belong together; ConfigurationError lists every fault."""
    calls = [
        (d.vault, vault_abi().call("token")),
        (d.vault, vault_abi().call("kernel")),
        (d.kernel, kernel_abi().call("approvedEscrowVaults", d.vault)),
        (d.usdc, token_abi().call("decimals")),
    ]
    token, kernel, approved, decimals = rpc.batch(
        [("eth_call", [{"to": to, "data": data}, "latest"]) for to, data in calls]
    )
    faults = []
    if not _is_address(token, d.usdc):
        faults.append(f"the vault {d.vault} does not take the token {d.usdc}")
    if not _is_address(kernel, d.kernel):
        faults.append(f"the vault {d.vault} does not belong to the kernel {d.kernel}")
    if isinstance(approved, RpcRefusal) or len(approved) != 66:
        faults.append(f"{d.kernel} does not answer as an ACTP kernel does")
    if isinstance(decimals, RpcRefusal) or decimals == "0x" or quantity(decimals) != DECIMALS:
        faults.append(f"the token {d.usdc} does not have {DECIMALS} decimals")
    if faults:
        raise ConfigurationError(*faults)


def _is_address(answer: Any, address: str) -> bool:
    return isinstance(answer, str) and answer[-40:].lower() == address[2:].lower()
