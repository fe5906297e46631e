"""A provider that runs the protocol's own client serves our purchase by itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import Usdc
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import ZERO
from tests.integration.local_chain import LocalChain
from tests.integration.world import World

ROOT = Path(__file__).resolve().parents[2]
PEER_PYTHON = ROOT / ".venv-peer/bin/python"
PEER_KEY = "0x" + "5e" * 32
PEER = load_signer("env:PEER_KEY", {"PEER_KEY": PEER_KEY}).address


class Peer:
    """The peer's client as a process, heard line by line."""

    def __init__(self, chain: LocalChain, service: str, log: Path) -> None:
        d = chain.deployment
        command = [str(PEER_PYTHON), str(ROOT / "tests/integration/peer/provider.py")]
        command += ["--rpc-url", chain.url, "--service", service, "--poll-seconds", "0.1"]
        command += ["--kernel", d.kernel, "--vault", d.vault, "--usdc", d.usdc]
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env=os.environ | {"PEER_PRIVATE_KEY": PEER_KEY},
            )

    def says(self) -> dict[str, Any]:
        """Its next line; it is awaited."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the peer ended with {self.process.wait()}: {self._log.read_text()[-2000:]}"
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def run_peer(chain: LocalChain, tmp_path: Path) -> Iterator[Callable[[str], Peer]]:
    assert PEER_PYTHON.exists(), "there is no .venv-peer: run scripts/setup --peer"
    running: list[Peer] = []

    def run(service: str) -> Peer:
        chain.rpc.call("anvil_setBalance", PEER, hex(10**18))
        running.append(Peer(chain, service, tmp_path / "peer.log"))
        assert running[-1].says() == {"ready": True, "address": PEER}
        return running[-1]

    yield run
    for peer in running:
        peer.stop()


def test_the_peers_own_client_serves_our_purchase_and_is_paid(
    make_world: Callable[..., World], run_peer: Callable[[str], Peer]
) -> None:
    world = make_world(provider=PEER)
    chain = world.chain
    chain.rpc.call("evm_setAutomine", True)
    peer = run_peer("papers")
    # From here our executor works in its own thread, and every transaction is mined at once.
    buyer = world.open(act=True)
    agent = buyer.agent("research-agent")
    purchase = agent.purchase(provider="paper-api", amount="25.00", purpose="a paper")
    assert purchase.ok, purchase.reason
    assert purchase.service == "papers"
    job = peer.says()
    assert job == {
        "job": purchase.escrow_id,
        "service": "papers",
        "requester": world.treasury,
        "amount": "25000000",
        "state": "DELIVERED",
        "window_ends_at": chain.window_ends(purchase.escrow_id),
    }
    delivered = agent.wait_for(purchase.id, until="delivered")
    assert delivered.window_ends == job["window_ends_at"]
    assert chain.balance(PEER) == ZERO
    assert agent.settle(purchase.id).done
    settled = agent.wait_for(purchase.id, until="final")
    assert settled.status == "settled"
    assert chain.state(purchase.escrow_id) is EscrowState.SETTLED
    assert chain.balance(PEER) == settled.provider_received == Usdc("24.75")
    buyer.close()
    world.go()
    world.check_books()
    assert peer.stop() == 0


def test_a_purchase_of_another_service_is_left_alone(
    make_world: Callable[..., World], run_peer: Callable[[str], Peer]
) -> None:
    world = make_world(provider=PEER)
    chain = world.chain
    chain.rpc.call("evm_setAutomine", True)
    peer = run_peer("papers")
    buyer = world.open(act=True)
    agent = buyer.agent("research-agent")
    other = agent.purchase(
        provider="paper-api", amount="5.00", purpose="a photo", service="pictures"
    )
    ours = agent.purchase(provider="paper-api", amount="6.00", purpose="a paper")
    assert other.ok and ours.ok
    # The later one is served, so the earlier one has been seen and left.
    assert peer.says()["job"] == ours.escrow_id
    assert chain.state(other.escrow_id) is EscrowState.FUNDED
    assert chain.state(ours.escrow_id) is EscrowState.DELIVERED
