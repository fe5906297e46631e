"""The whole coordinator on a chain of its own process: no Anvil, no sockets, no settings."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_socket

from coordinator import Coordinator, Purchase, Usdc
from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.domain.errors import TxReverted
from coordinator.domain.policy.text import parse_policy

PROVIDER = "0x" + "5a" * 20
DAY = 86_400
POLICY = f"""
[organisation]
total_limit = "5000"

[agents.research-agent]
per_purchase_limit = "100"
total_limit = "1000"
approval_threshold = "50"

[providers.paper-api]
address = "{PROVIDER}"
service = "papers"

[approvals]
approvers = ["alice"]

[escrow]
create_within = "1h"
deadline_after = "24h"
dispute_window = "48h"
settle = "after_window"
"""


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("COORDINATOR_", "TREASURY_"))]:
        monkeypatch.delenv(name)
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


def simulated(**settings: str) -> Coordinator:
    policy = parse_policy(POLICY, name="policy.toml")
    return Coordinator.from_env(network="simulated", policy=policy, **settings)


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with simulated() as made:
        yield made


def buy(coordinator: Coordinator, amount: str = "25.00", **terms: Any) -> Purchase:
    agent = coordinator.agent("research-agent")
    return agent.purchase(provider="paper-api", amount=amount, purpose="a test", **terms)


def test_a_first_answer_waits_until_the_chain_was_followed_once(coordinator: Coordinator) -> None:
    executor = coordinator.wiring.executor
    executor.start()
    assert executor.wait_for_look(60)
    assert coordinator.wiring.books.cursor() is not None
    assert not executor.starting


def test_a_first_answer_does_not_wait_while_another_process_follows(
    coordinator: Coordinator,
) -> None:
    assert coordinator.wiring.leases.acquire("a worker elsewhere", seconds=600) is not None
    executor = coordinator.wiring.executor
    executor.start()
    assert executor.wait_for_look(60)
    assert not executor.acting


def test_a_purchase_is_funded_delivered_and_settled(coordinator: Coordinator) -> None:
    chain = coordinator.simulation
    assert chain is not None
    treasury = coordinator.wiring.signer.address
    assert chain.usdc_balance(treasury) == Usdc("10000")
    purchase = buy(coordinator)
    assert purchase.status == "funded", purchase.reason
    assert chain.usdc_balance(treasury) == Usdc("9975")
    chain.start(purchase)
    chain.deliver(purchase)
    assert coordinator.wait_for(purchase.id, until="delivered").status == "delivered"
    chain.pass_time(3 * DAY)
    settled = coordinator.wait_for(purchase.id, until="final")
    assert (settled.status, settled.provider_received) == ("settled", Usdc("24.75"))
    assert chain.usdc_balance(PROVIDER) == Usdc("24.75")
    assert coordinator.reconcile().discrepancies == ()


def test_a_purchase_beyond_a_limit_is_denied_and_nothing_moves(coordinator: Coordinator) -> None:
    assert coordinator.simulation is not None
    purchase = buy(coordinator, "100.01")
    assert purchase.denied
    treasury = coordinator.wiring.signer.address
    assert coordinator.simulation.usdc_balance(treasury) == Usdc("10000")


def test_a_lost_answer_costs_nothing(coordinator: Coordinator) -> None:
    chain = coordinator.simulation
    assert chain is not None
    chain.drop_answers(2)
    purchase = buy(coordinator)
    assert purchase.status == "funded", purchase.reason
    assert chain.usdc_balance(coordinator.wiring.signer.address) == Usdc("9975")


def test_the_provider_gives_it_back(coordinator: Coordinator) -> None:
    chain = coordinator.simulation
    assert chain is not None
    purchase = buy(coordinator)
    chain.cancel_by_provider(purchase)
    ended = coordinator.wait_for(purchase.id, until="final")
    assert (ended.final, ended.spent) == (True, Usdc("0"))
    with pytest.raises(TxReverted, match="Invalid transition"):
        chain.deliver(purchase)


def test_a_reorg_above_what_is_believed_changes_nothing_in_the_end() -> None:
    with simulated(confirmations="6", finality="6") as coordinator:
        chain = coordinator.simulation
        assert chain is not None
        treasury = coordinator.wiring.signer.address
        coordinator.start()
        purchase = buy(coordinator, wait=False)
        for _ in range(200):
            if chain.usdc_balance(treasury) == Usdc("9975"):
                break
            chain.mine()
            time.sleep(0.05)
        assert coordinator.get(purchase.id).status == "approved"
        chain.reorg(2)
        chain.mine(6)
        assert coordinator.wait_for(purchase.id, timeout_seconds=20).status == "funded"
        assert chain.usdc_balance(treasury) == Usdc("9975")
        assert coordinator.reconcile().discrepancies == ()


def test_time_is_the_chains(coordinator: Coordinator) -> None:
    chain = coordinator.simulation
    assert chain is not None
    assert abs(coordinator.wiring.clock() - time.time()) < 5
    chain.pass_time(DAY)
    assert abs(coordinator.wiring.clock() - DAY - time.time()) < 5


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with simulated() as coordinator:
        buy(coordinator)
        folder = Path(coordinator.wiring.database.engine.url.database or "").parent
        assert folder.exists()
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_was_set_is_kept(tmp_path: Path) -> None:
    with simulated(database_url=f"sqlite:///{tmp_path / 'kept.db'}") as coordinator:
        buy(coordinator)
    assert (tmp_path / "kept.db").exists()


def test_the_documents_lines_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    text = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "docs/testing.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "24.75"


ENV = """
COORDINATOR_NETWORK={network}
COORDINATOR_START_BLOCK=30000000
COORDINATOR_CONFIRMATIONS=9
COORDINATOR_DATABASE_URL=sqlite:///real.db
COORDINATOR_MAX_FEE_GWEI=0.000000001
COORDINATOR_ID_SECRET={secret}
TREASURY_PRIVATE_KEY=0x{key}
"""


@pytest.mark.parametrize("where", ["file", "environment"])
@pytest.mark.parametrize("called", [True, False], ids=["by the call", "by the settings"])
def test_nothing_of_a_real_treasury_reaches_a_simulated_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, called: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    network = "base-sepolia" if called else "simulated"
    text = ENV.format(network=network, secret="22" * 32, key="11" * 32)
    if where == "file":
        (tmp_path / ".env").write_text(text)
    else:
        for line in text.split():
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value)
    before = sorted(tmp_path.iterdir())
    policy = parse_policy(POLICY, name="policy.toml")
    given = {"network": "simulated"} if called else {}

    with Coordinator.from_env(policy=policy, **given) as coordinator:
        assert coordinator.wiring.signer.address != address_of_key(bytes.fromhex("11" * 32))
        assert buy(coordinator).status == "funded"

    assert sorted(tmp_path.iterdir()) == before


def test_a_faulty_env_file_is_nothing_to_a_simulated_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"COORDINATOR_RPC_URL=\xff\xff")
    with simulated() as coordinator:
        assert buy(coordinator).status == "funded"


def test_the_executors_log_tells_decisions_and_pauses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="coordinator.executor.checkpoint")
    with simulated() as coordinator:
        buy(coordinator)
        denied = buy(coordinator, "120.00")
        coordinator.pause("a look", by="olga")
        coordinator.unpause("looked", by="alice")
        last = buy(coordinator)
    assert last.status == "funded"
    told = [record.getMessage() for record in caplog.records]
    expected = [
        f"purchase_denied purchase_id={denied.id}",
        "paused scope=organisation",
        "unpaused scope=organisation",
        f"purchase_approved purchase_id={last.id}",
    ]
    assert [line for line in told if line in expected] == expected
