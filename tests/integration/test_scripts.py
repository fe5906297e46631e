"""The example crew: on a chain of its own, and by the testnet's program with settings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.demo.stage import Stage, open_stage

_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(keep=False) as stage:
        stage.close()
        yield stage


def _run(
    script: str, *arguments: str, cwd: Path, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_SCRIPTS / script), *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _assert_bought(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    assert [p["status"] for p in shown["purchases"]] == ["funded", "funded", "funded"]
    assert shown["purchases"][2]["approvals"][0]["approver"] == "alice"
    assert shown["reconciliation"]["discrepancies"] == []
    assert shown["report"]["in_escrow"] == "4.50"
    return shown


def test_the_crew_buys_on_a_chain_of_its_own(tmp_path: Path) -> None:
    _assert_bought(_run("run_local.py", "--json", cwd=tmp_path, env={}))


def test_the_testnet_program_buys_by_settings_alone_and_never_twice(
    stage: Stage, tmp_path: Path
) -> None:
    deployment = stage.deployment
    env = {
        **stage.environment,
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_KERNEL_ADDRESS": deployment.kernel,
        "COORDINATOR_VAULT_ADDRESS": deployment.vault,
        "COORDINATOR_USDC_ADDRESS": deployment.usdc,
        "COORDINATOR_DATABASE_URL": f"sqlite:///{tmp_path}/testnet.db",
        "COORDINATOR_START_BLOCK": "1",
        "COORDINATOR_FINALITY": "1",
    }
    first = _assert_bought(
        _run("run_testnet.py", "--json", "--provider", stage.provider, cwd=tmp_path, env=env)
    )
    links = [p["transactions"][-1]["url"] for p in first["purchases"]]
    assert all(url.startswith("https://sepolia.basescan.org/tx/0x") for url in links)

    again = _assert_bought(
        _run("run_testnet.py", "--json", "--provider", stage.provider, cwd=tmp_path, env=env)
    )

    assert [p["escrow_id"] for p in again["purchases"]] == [
        p["escrow_id"] for p in first["purchases"]
    ]


def test_the_testnet_program_shows_every_step_without_a_key(tmp_path: Path) -> None:
    done = _run("run_testnet.py", "--dry-run", "--json", cwd=tmp_path, env={})

    assert done.returncode == 0, done.stderr
    steps = [step["step"] for step in json.loads(done.stdout)]
    assert steps == ["approve", "create", "link", "create", "link", "create", "link"]
    assert list(tmp_path.iterdir()) == []


def test_the_testnet_program_refuses_a_local_network_in_one_sentence(
    stage: Stage, tmp_path: Path
) -> None:
    done = _run("run_testnet.py", "--provider", stage.provider, cwd=tmp_path, env=stage.environment)
    assert done.returncode == 2
    assert "COORDINATOR_NETWORK must be base-sepolia" in done.stderr + done.stdout
