"""Deploying on a real Anvil: what is there afterwards, and what stays untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.abi import Abi, token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.local.anvil import Anvil, find_anvil
from coordinator.chain.local.deploy import Deployed, Deployer, deploy, fund_local, unlocked_account
from coordinator.chain.networks import ARCHIVE, shipped_deployment
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.errors import ChainUnavailable, ConfigurationError, TxReverted
from coordinator.domain.usdc import Usdc

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
TREASURY = "0x1111111111111111111111111111111111111111"
# Anvil's sixth account: public, from the mnemonic "test test … junk".
DEV_KEY = "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"


@pytest.fixture(scope="module")
def rpc() -> Iterator[Rpc]:
    with Anvil.start() as anvil:
        yield Rpc([anvil.url])


@pytest.fixture(scope="module")
def deployer(rpc: Rpc) -> Deployer:
    return Deployer(unlocked_account(rpc), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployments")


@pytest.fixture(scope="module")
def deployed(rpc: Rpc, deployer: Deployer, folder: Path) -> Deployed:
    shipped = _shipped_files()
    made = deploy(rpc, deployer=deployer, folder=folder)
    assert _shipped_files() == shipped
    return made


def _shipped_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (CONTRACTS / "deployments").iterdir()}


def _read(rpc: Rpc, abi: Abi, to: str, function: str, *args: Any) -> Any:
    data = abi.call(function, *args)
    return abi.result(function, rpc.call("eth_call", {"to": to, "data": data}, "latest"))


def test_the_token_is_circles_usdc(rpc: Rpc, deployed: Deployed) -> None:
    token = deployed.deployment.usdc
    names = ("name", "symbol", "version", "decimals")
    assert [_read(rpc, token_abi(), token, name) for name in names] == ["USDC", "USDC", "2", 6]


def test_kernel_vault_and_token_belong_together(rpc: Rpc, deployed: Deployed) -> None:
    d = deployed.deployment
    assert _read(rpc, vault_abi(), d.vault, "token").lower() == d.usdc.lower()
    assert _read(rpc, vault_abi(), d.vault, "kernel").lower() == d.kernel.lower()
    assert _read(rpc, kernel_abi(), d.kernel, "approvedEscrowVaults", d.vault) is True
    archive = _read(rpc, kernel_abi(), d.kernel, "archiveTreasury").lower()
    assert archive == ARCHIVE.lower()
    # Any account of the node may be somebody's treasury.
    assert archive not in [account.lower() for account in rpc.call("eth_accounts")]


def test_the_file_names_each_contract_with_its_origin(rpc: Rpc, deployed: Deployed) -> None:
    document = json.loads(deployed.path.read_text())
    genesis_hash = rpc.call("eth_getBlockByNumber", "0x0", False)["hash"]
    assert (document["chain_id"], document["genesis_hash"]) == (84532, genesis_hash)
    assert (document["network"], document["rail"]) == ("anvil", "actp")
    assert deployed.path.name == f"84532-{genesis_hash}.json"
    for contract in document["contracts"].values():
        receipt = rpc.call("eth_getTransactionReceipt", contract["tx_hash"])
        assert receipt["contractAddress"].lower() == contract["address"].lower()
        assert contract["arguments"]
    assert deployed.deployment.block == 1


def test_deploying_again_does_nothing(
    rpc: Rpc, deployer: Deployer, folder: Path, deployed: Deployed
) -> None:
    written, block = deployed.path.read_bytes(), rpc.call("eth_blockNumber")
    again = deploy(rpc, deployer=deployer, folder=folder)
    assert (deployed.done, again.done, again.steps) == (True, False, ())
    assert again.deployment == deployed.deployment
    assert (deployed.path.read_bytes(), rpc.call("eth_blockNumber")) == (written, block)


def test_deploying_again_with_another_token_is_refused(
    rpc: Rpc, deployer: Deployer, folder: Path, deployed: Deployed
) -> None:
    with pytest.raises(ConfigurationError, match="has another token"):
        deploy(rpc, deployer=deployer, folder=folder, usdc=deployed.deployment.vault)


def test_the_shipped_deployment_stays_the_public_one(deployed: Deployed) -> None:
    assert shipped_deployment(84532).kernel != deployed.deployment.kernel
    assert not (deployed.path.parent / "84532.json").exists()


def test_a_file_whose_contracts_are_gone_is_replaced(tmp_path: Path) -> None:
    with Anvil.start() as anvil:
        rpc = Rpc([anvil.url])
        deployer = Deployer(unlocked_account(rpc), None)
        before = rpc.call("evm_snapshot")
        first = deploy(rpc, deployer=deployer, folder=tmp_path)
        rpc.call("evm_revert", before)
        rpc.call("anvil_setNonce", deployer.address, "0x20")
        second = deploy(rpc, deployer=deployer, folder=tmp_path)
        assert second.done and second.path == first.path
        assert second.deployment.kernel != first.deployment.kernel
        assert rpc.call("eth_getCode", second.deployment.kernel, "latest") != "0x"


def test_a_dry_run_lists_its_steps_and_writes_nothing(tmp_path: Path) -> None:
    with Anvil.start(block_seconds=1) as anvil:
        rpc = Rpc([anvil.url])
        deployer = Deployer(unlocked_account(rpc), None)
        folder = tmp_path / "deployments"
        said = deploy(rpc, deployer=deployer, folder=folder, dry_run=True)
        assert not folder.exists()
        assert rpc.call("eth_getTransactionCount", deployer.address, "pending") == "0x0"
        assert len(said.steps) == 13
        assert said.steps[0].startswith("deploy SignatureChecker at 0x")
        made = deploy(rpc, deployer=deployer, folder=folder)
        assert made.steps == said.steps
        assert made.deployment.kernel == said.deployment.kernel
        assert made.deployment.usdc == said.deployment.usdc


def test_without_an_archive_its_treasury_is_not_set(
    rpc: Rpc, deployer: Deployer, deployed: Deployed, tmp_path: Path
) -> None:
    usdc = deployed.deployment.usdc
    made = deploy(rpc, deployer=deployer, folder=tmp_path, usdc=usdc, archive=False)
    assert len(made.steps) == 3
    assert made.deployment.usdc == usdc
    assert json.loads(made.path.read_text())["contracts"]["usdc"] == {"address": usdc}
    assert int(_read(rpc, kernel_abi(), made.deployment.kernel, "archiveTreasury"), 16) == 0


def test_a_local_treasury_is_funded_on_top_of_what_it_has(rpc: Rpc, deployed: Deployed) -> None:
    for _ in range(2):
        fund_local(rpc, deployed.deployment, TREASURY, usdc=Usdc("1000.25"), wei=10**18)
    token = deployed.deployment.usdc
    assert _read(rpc, token_abi(), token, "balanceOf", TREASURY) == 2_000_500_000
    assert int(rpc.call("eth_getBalance", TREASURY, "latest"), 16) == 2 * 10**18


def test_a_refused_mint_says_why(rpc: Rpc, deployed: Deployed) -> None:
    with pytest.raises(TxReverted, match=r"mint 1\.00 USDC: .*blacklisted"):
        # The token blacklists itself, so that nobody sends to it by mistake.
        fund_local(rpc, deployed.deployment, deployed.deployment.usdc, usdc=Usdc("1"), wei=0)


def test_a_key_deploys_for_a_token_that_is_there(
    rpc: Rpc, deployed: Deployed, tmp_path: Path
) -> None:
    signer = load_signer("env:DEV_KEY", {"DEV_KEY": DEV_KEY})
    usdc = deployed.deployment.usdc
    made = deploy(rpc, deployer=Deployer(signer.address, signer), folder=tmp_path, usdc=usdc)
    assert made.done
    kernel = made.deployment.kernel
    assert _read(rpc, kernel_abi(), kernel, "admin").lower() == signer.address.lower()
    assert _read(rpc, kernel_abi(), kernel, "approvedEscrowVaults", made.deployment.vault)


def test_a_key_does_not_deploy_a_token(rpc: Rpc, tmp_path: Path) -> None:
    signer = load_signer("env:DEV_KEY", {"DEV_KEY": DEV_KEY})
    with pytest.raises(ConfigurationError, match="give the token's address"):
        deploy(rpc, deployer=Deployer(signer.address, signer), folder=tmp_path)


def test_a_token_without_code_is_refused(rpc: Rpc, deployer: Deployer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no contract at the token's address"):
        deploy(rpc, deployer=deployer, folder=tmp_path, usdc=TREASURY)


def test_the_base_fee_stays_as_low_as_bases(rpc: Rpc, deployed: Deployed) -> None:
    last = int(rpc.call("eth_blockNumber"), 16)
    blocks = [rpc.call("eth_getBlockByNumber", hex(n), False) for n in range(last + 1)]
    assert all(int(block["baseFeePerGas"], 16) <= 5_000_000 for block in blocks)
    assert all(int(block["gasLimit"], 16) == 400_000_000 for block in blocks)


def test_anvil_that_is_stopped_is_gone_and_others_run_on() -> None:
    with Anvil.start() as one, Anvil.start(chain_id=31337) as other:
        assert one.url != other.url
        one.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(one.pid, 0)
        with pytest.raises(ChainUnavailable):
            Rpc([one.url], tries=1).call("eth_chainId")
        assert Rpc([other.url]).call("eth_chainId") == hex(31337)


def test_a_port_in_use_is_reported() -> None:
    with Anvil.start() as anvil, pytest.raises(ChainUnavailable, match="in use"):
        Anvil.start(port=int(anvil.url.rpartition(":")[2]))


def test_a_kept_state_keeps_its_deployment(tmp_path: Path) -> None:
    state, log = tmp_path / "state.json", tmp_path / "logs" / "anvil.log"
    with Anvil.start(state=state, log=log) as anvil:
        deployer = Deployer(unlocked_account(Rpc([anvil.url])), None)
        first = deploy(Rpc([anvil.url]), deployer=deployer, folder=tmp_path)
    with Anvil.start(state=state, log=log) as anvil:
        again = deploy(Rpc([anvil.url]), deployer=deployer, folder=tmp_path)
    assert (again.done, again.deployment) == (False, first.deployment)
    assert log.read_text().count("Listening on") == 2


def test_an_anvil_remembers_its_first_block_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Anvil.start() as anvil:
        rpc = Rpc([anvil.url], timeout_seconds=200)
        rpc.call("anvil_mine", "0x1388")
        assert rpc.call("eth_getBalance", "0x" + "00" * 20, "0x0") == "0x0"
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("detached", [True, False])
def test_only_a_detached_anvil_outlives_its_parent(detached: bool, tmp_path: Path) -> None:
    if not detached and sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent")
    program = (
        "import os; from coordinator.chain.local.anvil import Anvil;"
        f"a = Anvil.start(detached={detached}); print(a.url, a.pid, flush=True); os._exit(0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    url, pid = ran.stdout.split()
    try:
        ends = time.monotonic() + 5
        while (answers := _answers(url)) and not detached and time.monotonic() < ends:
            time.sleep(0.02)
        assert answers is detached
    finally:
        if detached:
            os.kill(int(pid), 15)


def _answers(url: str) -> bool:
    try:
        return bool(Rpc([url], tries=1).call("eth_chainId"))
    except ChainUnavailable:
        return False


def test_a_launcher_is_not_taken_for_anvil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\necho anvil Version: 9.9.9\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("coordinator.chain.local.anvil._CHECKOUT", tmp_path)
    with pytest.raises(ConfigurationError, match="run scripts/setup"):
        find_anvil()
