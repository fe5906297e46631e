"""Networks, and the contracts of each."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.errors import ConfigurationError

SIMULATED: Final = "simulated"

_CHECKOUT: Final = Path(__file__).resolve().parents[2] / "contracts"


@dataclass(frozen=True, slots=True)
class Network:
    """A chain by name: which chain ids it may have, its public endpoint and explorer.

    ``finality`` is a block tag, or a depth counted like confirmations. ``l1_fee_oracle`` is the
    OP stack's GasPriceOracle, where the chain charges for L1 data.
    """

    name: str
    chain_ids: tuple[int, ...]
    rpc_url: str
    explorer: str
    finality: str
    l1_fee_oracle: str | None = None

    @property
    def local(self) -> bool:
        """A chain of one's own, where the first block tells which."""
        return self.name in ("anvil", SIMULATED)

    @property
    def simulated(self) -> bool:
        """A chain inside the process, gone when it ends."""
        return self.name == SIMULATED

    def tx_url(self, tx_hash: str) -> str:
        """The explorer's page of a transaction; a plain ``tx:`` mark on a local chain."""
        return f"{self.explorer}/tx/{tx_hash}" if self.explorer else f"tx:{tx_hash}"


# Multicall3, the same address on Base, Base Sepolia and most chains; github.com/mds1/multicall3.
AGGREGATOR: Final = "0xcA11bde05977b3631167028862bE2a173976CA11"
# The OP stack's predeploy; docs.optimism.io, "GasPriceOracle".
_ORACLE: Final = "0x420000000000000000000000000000000000000F"

NETWORKS: Final = {
    "anvil": Network("anvil", (31337, 84532), "http://127.0.0.1:8545", "", "1"),
    SIMULATED: Network(SIMULATED, (31337,), "http://simulated.localhost", "", "1"),
    "base-sepolia": Network(
        "base-sepolia",
        (84532,),
        "https://sepolia.base.org",
        "https://sepolia.basescan.org",
        "finalized",
        _ORACLE,
    ),
    "base": Network(
        "base", (8453,), "https://mainnet.base.org", "https://basescan.org", "finalized", _ORACLE
    ),
}


# The accounts of the mnemonic that development nodes share ("test test … junk"): everybody has
# their keys.
DEVELOPMENT_ACCOUNTS: Final = (
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
    "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
    "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
    "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
)


def _nobody(role: str) -> str:
    """An address that nobody has the key of, the same for a role on every local chain."""
    return checksummed("0x" + keccak256(f"coordinator local {role}".encode())[-20:].hex())


# No account of a local node has a part in its contracts: any may be somebody's treasury.
FEE_RECIPIENT: Final = _nobody("platform fees")
ARCHIVE: Final = _nobody("archive treasury")
PROXY_ADMIN: Final = _nobody("proxy admin")


@dataclass(frozen=True, slots=True)
class Deployment:
    """Addresses of one rail on one chain; ``block`` is the first that matters to it."""

    chain_id: int
    kernel: str
    vault: str
    usdc: str
    block: int

    @classmethod
    def of(cls, document: dict[str, Any]) -> Deployment:
        contracts = document["contracts"]
        return cls(
            chain_id=int(document["chain_id"]),
            kernel=checksummed(contracts["kernel"]["address"]),
            vault=checksummed(contracts["vault"]["address"]),
            usdc=checksummed(contracts["usdc"]["address"]),
            block=int(contracts["kernel"].get("block", 0)),
        )


def packaged(kind: str, name: str) -> dict[str, Any]:
    """A JSON file that ships with the package: ``kind`` is ``abi`` or ``deployments``."""
    inside = resources.files("coordinator.chain") / kind / name
    folder = {"abi": "artifacts", "deployments": "deployments"}[kind]
    for path in (inside, _CHECKOUT / folder / name):
        if path.is_file():
            loaded: dict[str, Any] = json.loads(path.read_text())
            return loaded
    raise ConfigurationError(f"{kind}/{name} is missing from the installation")


def shipped_deployment(chain_id: int) -> Deployment:
    """The deployment that ships with the package for a public chain."""
    return Deployment.of(packaged("deployments", f"{chain_id}.json"))


def local_deployment_path(folder: Path, chain_id: int, genesis_hash: str) -> Path:
    """Return the file of a local chain's deployment: one for each chain, by its genesis."""
    return folder / f"{chain_id}-{genesis_hash}.json"


def read_local_deployment(path: Path) -> Deployment:
    """The deployment of a local chain; ConfigurationError says to deploy when there is none."""
    try:
        return Deployment.of(json.loads(path.read_text()))
    except FileNotFoundError:
        raise ConfigurationError(
            "this local chain has no contracts yet: run `coordinator deploy`"
        ) from None


def list_deployments(folder: Path) -> Iterator[Deployment]:
    """Every deployment that can be known without asking a chain: shipped, and in ``folder``."""
    for network in NETWORKS.values():
        if not network.local and not network.simulated:
            yield shipped_deployment(network.chain_ids[0])
    for path in sorted(folder.glob("*.json")):
        try:
            yield Deployment.of(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def write_deployment(path: Path, document: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    Path(temporary).replace(path)
