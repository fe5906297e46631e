"""Deploy the contracts of a test chain, fund a treasury there, and find what is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.chain.evm.endpoint_check import check_endpoints
from coordinator.chain.local.deploy import Deployed, Deployer, unlocked_account
from coordinator.chain.local.deploy import deploy as deploy_contracts
from coordinator.chain.local.deploy import fund_local as fund_on_anvil
from coordinator.chain.networks import NETWORKS, Network, list_deployments
from coordinator.chain.rpc.client import Rpc
from coordinator.config import Settings
from coordinator.domain.policy.payees import Contracts, contracts_of
from coordinator.domain.usdc import Usdc
from coordinator.wiring import Wiring

# An endpoint is asked once, and not waited for: what it would tell can be left out.
_HEAD_SECONDS: Final = 5


def list_networks() -> Sequence[Network]:
    """Return the networks that a treasury can be on."""
    return tuple(NETWORKS.values())


def find_network(name: str) -> Network:
    """Return the network of that name; KeyError for another."""
    return NETWORKS[name]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment that can be made: by whom, and with which token (None: one is deployed)."""

    wiring: Wiring
    deployer: Deployer
    usdc: str | None

    def carry_out(self, *, dry_run: bool = False) -> Deployed:
        """Deploy what is missing; with ``dry_run`` tell what that is, and send nothing."""
        return deploy_contracts(
            self.wiring.rpc,
            deployer=self.deployer,
            folder=self.wiring.settings.deployments_folder,
            usdc=self.usdc,
            dry_run=dry_run,
        )


def plan_deployment(wiring: Wiring, usdc: str | None) -> Deployment:
    """Return the deployment on the wiring's chain, once its endpoints were checked.

    A local node's first account pays for it, on other networks the treasury's own.
    """
    chain_id = int(wiring.rpc.call("eth_chainId"), 16)
    check_endpoints(wiring.rpc, wiring.network, chain_id)
    if wiring.network.local:
        return Deployment(wiring, Deployer(unlocked_account(wiring.rpc), None), usdc)
    deployer = Deployer(wiring.signer.address, wiring.signer)
    return Deployment(wiring, deployer, usdc or wiring.deployment.usdc)


def fund_local(wiring: Wiring, *, usdc: Usdc, wei: int) -> None:
    """Mint test USDC for the treasury of a local chain, and add ``wei`` for gas."""
    treasury, signer = wiring.treasury_address, wiring.signer.address
    fund_on_anvil(wiring.rpc, wiring.deployment, treasury, signer=signer, usdc=usdc, wei=wei)


def list_contracts(settings: Settings) -> Contracts:
    """Return the rail's contracts that are known without asking a chain or reading a key."""
    known: dict[str, str] = {}
    for d in list_deployments(settings.deployments_folder):
        known |= contracts_of(treasury="", usdc=d.usdc, vault=d.vault, kernel=d.kernel)
    known |= contracts_of(
        treasury="",
        usdc=settings.usdc_address or "",
        vault=settings.vault_address or "",
        kernel=settings.kernel_address or "",
    )
    return known


def read_head(network: str, urls: Sequence[str]) -> int | None:
    """Return the endpoint's latest block number; None when its chain is not the network's.

    ChainUnavailable when it does not answer within five seconds.
    """
    rpc = Rpc(list(urls), timeout_seconds=_HEAD_SECONDS, tries=1)
    if int(rpc.call("eth_chainId"), 16) not in NETWORKS[network].chain_ids:
        return None
    return int(rpc.call("eth_blockNumber"), 16)
