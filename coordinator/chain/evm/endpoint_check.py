"""Check of the endpoints that has to pass before anything is signed."""

from __future__ import annotations

from typing import Any

from coordinator.chain.abi import quantity
from coordinator.chain.networks import Network
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.errors import ChainUnavailable, ConfigurationError


def check_endpoints(rpc: Rpc, network: Network, chain_id: int) -> None:
    """Refuse an endpoint of another chain; for ``anvil``, one that is not a local Anvil.

    ConfigurationError names the host of each wrong one. Those that do not answer are asked for
    their chain before they are used; ChainUnavailable when none answers.
    """
    if network.local and not network.simulated and not rpc.loopback:
        raise ConfigurationError("COORDINATOR_NETWORK=anvil takes only a loopback endpoint")
    faults, silent = [], []
    for host, told in rpc.survey([("eth_chainId", []), ("web3_clientVersion", [])]):
        try:
            said, version = _identity(told)
        except ChainUnavailable as fault:
            silent.append(fault)
            continue
        if said not in network.chain_ids or said != chain_id:
            faults.append(
                f"the endpoint {host} of COORDINATOR_RPC_URL is an endpoint of chain {said};"
                f" {network.name} with these contracts is chain {chain_id}: nothing was signed"
            )
        elif network.local and not network.simulated and "anvil" not in version.lower():
            faults.append(
                f"COORDINATOR_NETWORK=anvil needs an Anvil node; {host} says {version[:60]!r}"
            )
    if faults:
        raise ConfigurationError(*faults)
    if len(silent) == len(rpc.hosts):
        raise silent[0]


def _identity(told: list[Any] | ChainUnavailable) -> tuple[int, str]:
    """(chain id, client)"""
    if isinstance(told, ChainUnavailable):
        raise told
    return quantity(told[0]), str(told[1])
