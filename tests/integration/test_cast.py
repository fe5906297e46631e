"""Foundry's `cast wallet` reads our keystores, and we read its."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from eth_account import Account

from coordinator import cli
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.typed_data import Trust, TypedData

PASSWORD = "correct horse"
FOUNDRY = Path(__file__).resolve().parents[2] / "contracts/node_modules/@foundry-rs"
CAST = next((str(found) for found in FOUNDRY.glob("cast-*/bin/cast")), shutil.which("cast"))
ACCOUNT = "0x" + "ab" * 20

pytestmark = pytest.mark.skipif(CAST is None, reason="Foundry's cast is not installed here")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COORDINATOR_KEYSTORE_PASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cast(*arguments: str) -> str:
    assert CAST is not None
    ran = subprocess.run(
        [CAST, "wallet", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_cast_signs_with_a_keystore_of_ours(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert cli.main(["wallet", "new", "treasury", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert "treasury" in cast("list")
    message = TypedData(Trust(ACCOUNT, 1, ACCOUNT), "Note", (("text", "string"),), ("hello",))
    (home / "message.json").write_text(json.dumps(message.document()))
    opened = ("--account", "treasury", "--password", PASSWORD)
    signature = cast("sign", "--data", "--from-file", "message.json", *opened)
    assert Account._recover_hash(message.digest, signature=signature) == made["address"]


def test_we_open_a_keystore_that_cast_made(capsys: pytest.CaptureFixture[str]) -> None:
    key = "0x" + "4c" * 32
    cast("import", "treasury", "--private-key", key, "--unsafe-password", PASSWORD)
    address = cast("address", "--private-key", key)
    assert cli.main(["wallet", "address", "treasury"]) == 0
    assert capsys.readouterr().out.strip() == address
    secrets = {"COORDINATOR_KEYSTORE_PASSWORD": PASSWORD}
    assert load_signer("keystore:treasury", secrets).address == address
