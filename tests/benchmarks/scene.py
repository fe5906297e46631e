"""Where payments are measured: a local chain with the contracts, and treasuries on it."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator import Coordinator
from coordinator.chain.abi import token_abi
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer
from coordinator.config import load_settings
from coordinator.domain.policy.export import to_toml
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from coordinator.wiring import wire
from tests.benchmarks.console import FOLDER
from tests.benchmarks.course import POLICY
from tests.integration.local_chain import LocalChain

BLOCK_SECONDS: Final = 2
_WEI: Final = 10**20
_USDC: Final = Usdc("1000000")
_GAS: Final = 200_000
_FEE_WEI: Final = 10**10
_LOOK_SECONDS: Final = 0.01
_WAIT_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Treasury:
    """A funded account with a database of its own; the vault may take its USDC already."""

    key: str
    address: str
    database_url: str
    signer: Signer


class Scene:
    """An Anvil with the project's contracts, and treasuries on it."""

    def __init__(self, anvil: Anvil, folder: Path) -> None:
        self.folder = folder
        self.url = anvil.url
        self.block_seconds: float | None = None
        self.rpc = Rpc([anvil.url], timeout_seconds=30)
        self.chain = LocalChain(self.rpc, folder / "deployments")
        self.deployment = self.chain.deployment
        (folder / "policy.toml").write_text(to_toml(Policy.from_dict(POLICY)))

    def treasuries(self, database_urls: Sequence[str]) -> list[Treasury]:
        """One for each database, all funded."""
        keys = ["0x" + secrets.token_hex(32) for _ in database_urls]
        signers = [load_signer("env:KEY", {"KEY": key}) for key in keys]
        hashes = []
        for signer in signers:
            self.rpc.call("anvil_setBalance", signer.address, hex(_WEI))
            self.chain.set_allowance(signer.address, _USDC)
            hashes.append(self.mint(signer.address, _USDC))
        for tx_hash in hashes:
            self.wait_until(lambda h=tx_hash: self.mined(h))  # type: ignore[misc]
        return [
            Treasury(key, signer.address, url, signer)
            for key, signer, url in zip(keys, signers, database_urls, strict=True)
        ]

    def blocks_every(self, seconds: int) -> None:
        """From now on a block comes so often, whatever is in it; before, with each transaction."""
        self.rpc.call("evm_setIntervalMining", seconds)
        self.block_seconds = seconds

    def mint(self, account: str, amount: Usdc) -> str:
        """A deposit that somebody sends; its hash."""
        data = token_abi().call("mint", account, amount.base_units)
        return self.chain.send(self.chain.admin, self.deployment.usdc, data, gas=hex(_GAS))

    def mined(self, tx_hash: str) -> bool:
        return self.rpc.call("eth_getTransactionReceipt", tx_hash) is not None

    def environment(self, treasury: Treasury, *, url: str, public: bool) -> dict[str, str]:
        """The settings of a treasury that asks ``url``: a public network's, or a local one's."""
        found = {
            "COORDINATOR_NETWORK": "base-sepolia" if public else "anvil",
            "COORDINATOR_RPC_URL": url,
            "COORDINATOR_DATABASE_URL": treasury.database_url,
            "COORDINATOR_POLICY_FILE": str(self.folder / "policy.toml"),
            "COORDINATOR_DEPLOYMENTS_FOLDER": str(self.folder / "deployments"),
            "COORDINATOR_STATE_FOLDER": str(self.folder / f"state-{treasury.address}"),
            "COORDINATOR_START_BLOCK": str(self.chain.height),
            "COORDINATOR_ALLOWANCE_LIMIT": str(_USDC),
            "COORDINATOR_ID_SECRET": secrets.token_hex(32),
            "TREASURY_PRIVATE_KEY": treasury.key,
        }
        if public:
            d = self.deployment
            for name, address in (("KERNEL", d.kernel), ("VAULT", d.vault), ("USDC", d.usdc)):
                found[f"COORDINATOR_{name}_ADDRESS"] = address
        return found

    def wait_for_block(self, part: float = 0.0) -> float:
        """Return ``part`` of a block's time after a block came; the time of that."""
        if self.block_seconds is None:
            return time.perf_counter()
        before = self.chain.height
        self.wait_until(lambda: self.chain.height > before)
        time.sleep(part * self.block_seconds)
        return time.perf_counter()

    @staticmethod
    def wait_until(met: Any, seconds: float = _WAIT_SECONDS) -> None:
        """Return as soon as ``met`` is true; RuntimeError when it is not in time."""
        until = time.monotonic() + seconds
        while not met():
            if time.monotonic() > until:
                raise RuntimeError(f"the benchmark waited {seconds:g} s in vain")
            time.sleep(_LOOK_SECONDS)


@contextmanager
def open_scene() -> Iterator[Scene]:
    """A scene in a folder of its own, which is gone afterwards; each transaction gets a block."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=FOLDER) as folder,
        Anvil.start() as anvil,
    ):
        yield Scene(anvil, Path(folder))


def open_coordinator(environment: Mapping[str, str], *, act: bool) -> Coordinator:
    """A coordinator of these settings alone."""
    return Coordinator(wire(environment, load_settings(environment)), act=act)


def for_child(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that has these settings alone."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")}
    return others | dict(environment)
