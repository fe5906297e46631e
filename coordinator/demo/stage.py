"""The demo's stage: a temporary folder, a local chain, contracts, a funded treasury."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from coordinator.api.coordinator import Coordinator
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.actp.terms import STATES
from coordinator.chain.local.anvil import Anvil
from coordinator.chain.local.deploy import Deployer, deploy, fund_local, unlocked_account
from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.configuration import Places
from coordinator.chain.signers.opening import load_signer
from coordinator.config import load_settings
from coordinator.demo.safe import build_safe
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.ports import EscrowOnChain
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from coordinator.wiring import wire

TREASURY_USDC: Final = Usdc("1000.00")
TREASURY_WEI: Final = 5 * 10**16
_WAIT_SECONDS: Final = 20


def policy_text(provider: str) -> str:
    """Three agents and one provider, in a zone where the day's end is hours away."""
    offset = (12 - datetime.now(UTC).hour) % 24
    # POSIX signs: Etc/GMT-3 is three hours ahead of UTC.
    zone = f"Etc/GMT-{offset}" if offset <= 12 else f"Etc/GMT+{24 - offset}"
    return f"""
[organisation]
total_limit = "1000.00"
daily_limit = "1000.00"
time_zone = "{zone}"

[agents.research-agent]
name = "Research Agent"
per_purchase_limit = "100"
daily_limit = "300"
approval_threshold = "50"

[agents.data-agent]
name = "Data Agent"
per_purchase_limit = "200"
daily_limit = "500"
approval_threshold = "100"

[agents.compute-agent]
name = "Compute Agent"
per_purchase_limit = "500"
daily_limit = "1000"
approval_threshold = "200"

[providers.paper-api]
address = "{provider}"
service = "papers"

[categories]
default = "other"
[categories.api]
total_limit = "900"
[categories.other]
total_limit = "900"

[approvals]
required = 1
approvers = ["alice", "bob"]
"""


class Stage:
    """The stage of the scenes: one chain, one treasury, one database at a time.

    ``payer`` is the treasury's kind: ``wallet``, or ``safe`` with ``places``.
    """

    def __init__(self, folder: Path, anvil: Anvil, payer: str = "wallet") -> None:
        self.folder = folder
        self.payer = payer
        self.places: Places | None = None
        self.anvil = anvil
        self.rpc = Rpc([anvil.url])
        self.admin = unlocked_account(self.rpc)
        self.provider: str = self.rpc.call("eth_accounts")[5]
        self.stranger: str = self.rpc.call("eth_accounts")[6]
        self.environment = {
            "COORDINATOR_NETWORK": "anvil",
            "COORDINATOR_RPC_URL": anvil.url,
            "COORDINATOR_DATABASE_URL": f"sqlite:///{folder}/coordinator.db",
            "COORDINATOR_POLICY_FILE": str(folder / "policy.toml"),
            "COORDINATOR_DEPLOYMENTS_FOLDER": str(folder / "deployments"),
            "COORDINATOR_ID_SECRET": secrets.token_hex(32),
            "TREASURY_PRIVATE_KEY": "0x" + secrets.token_hex(32),
        }
        (folder / "policy.toml").write_text(policy_text(self.provider))
        self.write_env()
        self.deployment = self._deploy()
        signer = load_signer("env:TREASURY_PRIVATE_KEY", self.environment).address
        if payer == "safe":
            self.places = build_safe(
                self.rpc,
                self.deployment,
                deployer=self.admin,
                provider=self.provider,
                member=signer,
            )
            self.environment |= {
                "COORDINATOR_PAYER": payer,
                "COORDINATOR_SAFE_ADDRESS": self.places.safe,
                "COORDINATOR_ROLES_ADDRESS": self.places.roles,
            }
            self.write_env()
        treasury = self.places.safe if self.places is not None else signer
        fund_local(
            self.rpc,
            self.deployment,
            treasury,
            signer=signer,
            usdc=TREASURY_USDC,
            wei=TREASURY_WEI,
        )
        self.coordinator = self.open()

    def open(self, **changed: str) -> Coordinator:
        """A coordinator on the stage's settings; the one before must be closed."""
        self.environment |= changed
        settings = load_settings(self.environment)
        self.coordinator = Coordinator(wire(self.environment, settings))
        return self.coordinator

    def escrow(self, purchase: Purchase) -> EscrowOnChain:
        """The purchase's escrow as the kernel tells it."""
        assert purchase.escrow_id is not None
        return self.coordinator.wiring.chain.escrow(purchase.escrow_id)

    def treasury_usdc(self) -> Usdc:
        """Read the treasury's USDC from the token."""
        chain = self.coordinator.wiring.chain
        return chain.observe().usdc_balance

    def evidence(self, purchase: Purchase) -> dict[str, Any]:
        """The purchase's transactions, and its escrow read back from kernel and vault."""
        found: dict[str, Any] = {
            "purchase_id": purchase.id,
            "transactions": [
                {"step": t.step, "hash": t.hash, "block": t.block, "status": t.status}
                for t in purchase.transactions
            ],
        }
        if purchase.escrow_id is not None:
            escrow = self.escrow(purchase)
            found["escrow_id"] = purchase.escrow_id
            found["kernel_state"] = escrow.state.value
            found["kernel_amount"] = str(escrow.amount)
            found["vault_remaining"] = str(self.remaining(purchase))
        return found

    def remaining(self, purchase: Purchase) -> Usdc:
        """Read the purchase's USDC from the vault."""
        chain = self.coordinator.wiring.chain
        keys = [purchase.escrow_key]
        left = chain.held_for(keys, block_number=chain.observe().head.number)
        return left[purchase.escrow_key]

    def fundings(self, purchase: Purchase) -> int:
        """Count how often the vault was funded under the purchase's escrow key: never above one."""
        logs = self.rpc.call(
            "eth_getLogs",
            {
                "address": self.deployment.vault,
                "topics": [vault_abi().topic("EscrowCreated"), purchase.escrow_key],
                "fromBlock": "0x0",
                "toBlock": "latest",
            },
        )
        return len(logs)

    def deliver(self, purchase: Purchase) -> None:
        """Be the provider: start and deliver, leaving an hour to contest."""
        window = "0x" + (3600).to_bytes(32, "big").hex()
        for state, proof in ((EscrowState.STARTED, "0x"), (EscrowState.DELIVERED, window)):
            number = STATES.index(state)
            data = kernel_abi().call("transitionState", purchase.escrow_id, number, proof)
            self.act(self.provider, data)

    def list_vault(self, listed: bool, *, wait: bool = True) -> None:
        """Be the kernel's admin: accept the vault, or take it off the list."""
        data = kernel_abi().call("approveEscrowVault", self.deployment.vault, listed)
        self.act(self.admin, data, wait=wait)

    def act(self, sender: str, data: str, *, wait: bool = True) -> None:
        """Send a call to the kernel from an unlocked account, ahead of what waits in the pool."""
        tx_hash = self.rpc.call(
            "eth_sendTransaction",
            {
                "from": sender,
                "to": self.deployment.kernel,
                "data": data,
                "gas": hex(500_000),
                "maxFeePerGas": hex(10**11),
                "maxPriorityFeePerGas": hex(10**10),
            },
        )
        if wait:
            self.wait_until(
                lambda: self.rpc.call("eth_getTransactionReceipt", tx_hash), "a receipt"
            )

    @contextmanager
    def blocks_by_hand(self) -> Iterator[Callable[[], None]]:
        """No block but when the yielded function is called."""
        self.rpc.call("evm_setIntervalMining", 0)
        try:
            yield lambda: self.rpc.call("anvil_mine", "0x1")
        finally:
            self.rpc.call("evm_setIntervalMining", 1)

    def pool_size(self) -> int:
        return int(self.rpc.call("txpool_status")["pending"], 16)

    def run_and_kill(self, arguments: list[str], kill_at: str) -> int:
        """Run the command line in a process of its own that dies at a kill point."""
        child = subprocess.run(
            [sys.executable, "-m", "coordinator", *arguments],
            env={**os.environ, **self.environment, "COORDINATOR_KILL_AT": kill_at},
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        return child.returncode

    def wait_until(self, met: Callable[[], object], what: str) -> None:
        """Return once ``met`` is true; CoordinatorError after 20 seconds."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not met():
            if time.monotonic() > deadline:
                raise CoordinatorError(f"waited {_WAIT_SECONDS} s for {what}")
            time.sleep(0.05)

    def close(self) -> None:
        self.coordinator.close()

    def _deploy(self) -> Deployment:
        deployer = Deployer(self.admin, None)
        folder = self.folder / "deployments"
        return deploy(self.rpc, deployer=deployer, folder=folder).deployment

    def write_env(self) -> None:
        """Keep the stage's settings where a command in its folder finds them."""
        path = self.folder / ".env"
        path.touch(mode=0o600)
        path.write_text("".join(f"{k}={v}\n" for k, v in self.environment.items()))


@contextmanager
def open_stage(*, keep: bool, payer: str = "wallet") -> Iterator[Stage]:
    """A stage in a temporary folder; gone afterwards unless it is to be kept."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="coordinator-demo-"))
        if not keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        log = folder / "anvil.log" if keep else None
        anvil = Anvil.start(chain_id=84532, block_seconds=1, log=log, detached=keep)
        try:
            stage = Stage(folder, anvil, payer)
            try:
                yield stage
            finally:
                stage.close()
        finally:
            if not keep:
                anvil.stop()


def worker_command() -> list[str]:
    """The command of a worker, for the stage's folder and environment."""
    return [sys.executable, "-m", "coordinator", "worker"]
