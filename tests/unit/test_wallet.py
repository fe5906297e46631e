"""Keystores by name in Foundry's folder: made, imported, listed, opened, and encrypted anew."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from coordinator import cli
from coordinator.chain.signers.keystores import open_keystore
from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.cli import wallet
from coordinator.provisioning.keys import KEYSTORE_FOLDER

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ADDRESS = address_of_key(KEY)
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder and working directory, and keystores that are quick to open."""
    for name in list(os.environ):
        if name.startswith("COORDINATOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COORDINATOR_KEYSTORE_PASSWORD", PASSWORD)
    encrypt = Account.encrypt
    monkeypatch.setattr(Account, "encrypt", lambda key, word: encrypt(key, word, iterations=2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The JSON of `coordinator wallet`."""
    ended = cli.main(["wallet", *arguments, "--json"])
    out = capsys.readouterr().out
    assert ended == code, out
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    return str(run(capsys, *arguments, code=code)["error"]["message"])


def test_the_folder_is_foundrys_wherever_it_is_named() -> None:
    assert wallet._FOLDER == KEYSTORE_FOLDER


def test_a_new_key_tells_the_treasury_and_an_approver_what_to_do(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert cli.main(["wallet", "new", "alice"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    path = home / ".foundry/keystores/alice"
    (address,) = (one["address"] for one in run(capsys, "list"))
    assert f"for the treasury: put COORDINATOR_SIGNER=keystore:{path}" in said
    assert f'for an approver: put credentials = ["address:{address}"] into the policy' in said
    assert f"COORDINATOR_APPROVER_SIGNER=keystore:{path}" in said


def test_a_new_key_is_in_foundrys_folder_and_its_owners_alone(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    made = run(capsys, "new", "treasury")
    path = home / ".foundry/keystores/treasury"
    assert (made["name"], made["path"]) == ("treasury", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert address_of_key(open_keystore(path, PASSWORD)) == made["address"]
    before = path.read_bytes()
    assert "exists already; nothing was written" in refused(capsys, "new", "treasury")
    assert path.read_bytes() == before


def test_without_a_name_the_file_is_called_by_its_address(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    made = run(capsys, "new", "--folder", "keys")
    assert made["path"] == f"keys/{made['address']}"
    assert (home / made["path"]).is_file()
    assert not (home / ".foundry").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../key", "a/b", ".hidden", "a b", "é", "x" * 65])
def test_a_name_is_a_files_and_stays_in_the_folder(
    capsys: pytest.CaptureFixture[str], home: Path, name: str
) -> None:
    assert "a keystore's name has at most" in refused(capsys, "new", name)
    assert list(home.iterdir()) == []


def test_an_imported_key_comes_back_and_is_nowhere_in_plain(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "key").write_text("0x" + KEY.hex())
    made = run(capsys, "import", "treasury", "--file", "key")
    path = Path(made["path"])
    assert made["address"] == ADDRESS
    assert KEY.hex() not in path.read_text() + json.dumps(made)
    assert open_keystore(path, PASSWORD) == KEY
    again = run(capsys, "import", "copy", "--file", str(path))
    assert (again["name"], again["address"]) == ("copy", ADDRESS)


@pytest.mark.parametrize("spec", ["treasury", ".foundry/keystores/treasury"])
def test_the_list_marks_the_one_in_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, spec: str
) -> None:
    made = [run(capsys, "new", name) for name in ("payer", "treasury")]
    (home / ".foundry/keystores/notes").write_text("{}")
    monkeypatch.setenv("COORDINATOR_SIGNER", f"keystore:{spec}")
    assert run(capsys, "list") == [
        {"name": one["name"], "address": one["address"], "path": one["path"], "in_use": used}
        for one, used in zip(made, (False, True), strict=True)
    ]
    assert cli.main(["wallet", "list", "--folder", "elsewhere"]) == 0
    told = capsys.readouterr()
    assert "no keystore files in elsewhere" in told.out
    assert f"in use is {made[1]['path']}, which is not in this folder" in told.err


def test_an_address_is_told_by_name_by_signer_and_of_the_one_in_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "key").write_text(KEY.hex())
    run(capsys, "import", "treasury", "--file", "key")
    assert run(capsys, "address", "treasury")["address"] == ADDRESS
    monkeypatch.setenv("TREASURY_PRIVATE_KEY", KEY.hex())
    assert run(capsys, "address") == {"address": ADDRESS, "signer": "env:TREASURY_PRIVATE_KEY"}
    assert cli.main(["wallet", "address", "treasury"]) == 0
    assert capsys.readouterr().out == f"{ADDRESS}\n"
    monkeypatch.setenv("COORDINATOR_KEYSTORE_PASSWORD", "another one")
    assert "does not open" in refused(capsys, "address", "treasury")
    assert "not a readable keystore" in refused(capsys, "address", "none")


def test_a_new_password_opens_the_key_and_the_old_one_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    made = run(capsys, "new", "treasury")
    path = Path(made["path"])
    key = open_keystore(path, PASSWORD)
    monkeypatch.setenv("COORDINATOR_KEYSTORE_NEW_PASSWORD", "battery staple")
    changed = run(capsys, "change-password", "treasury")
    assert changed == {"address": made["address"], "path": str(path)}
    assert open_keystore(path, "battery staple") == key
    assert [one.name for one in path.parent.iterdir()] == ["treasury"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert "does not open" in refused(capsys, "change-password", "treasury")
    monkeypatch.setenv("COORDINATOR_KEYSTORE_PASSWORD", "battery staple")
    monkeypatch.setenv("COORDINATOR_KEYSTORE_NEW_PASSWORD", "short")
    assert "at least 8 characters" in refused(capsys, "change-password", "treasury")
    monkeypatch.delenv("COORDINATOR_KEYSTORE_NEW_PASSWORD")
    assert "COORDINATOR_KEYSTORE_NEW_PASSWORD" in refused(capsys, "change-password", "treasury")
    assert path.read_bytes() == before


def test_a_password_that_can_not_be_stored_leaves_the_old_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    path = Path(run(capsys, "new", "treasury")["path"])
    before = path.read_bytes()
    monkeypatch.setenv("COORDINATOR_KEYSTORE_NEW_PASSWORD", "battery staple")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    told = refused(capsys, "change-password", "treasury")
    assert "can't be written: No space left on device" in told
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["treasury"]


def test_init_puts_a_new_keystore_where_foundry_has_its(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    arguments = ["--network", "anvil", "--key", "new-keystore", "--folder", "project", "--yes"]
    assert cli.main(["init", *arguments, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    path = home / ".foundry/keystores" / made["address"]
    assert made["keystore"] == str(path)
    assert f"COORDINATOR_SIGNER=keystore:{path}\n" in (home / "project/.env").read_text()
    assert address_of_key(open_keystore(path, PASSWORD)) == made["address"]


@pytest.mark.parametrize(
    ("signer", "taken"),
    [("env:KEY", False), ("aws-kms:alias/treasury", True), ("keystore:treasury", True)],
)
def test_init_takes_a_device_on_base_and_no_key_of_the_environment(
    capsys: pytest.CaptureFixture[str], home: Path, signer: str, taken: bool
) -> None:
    arguments = ["--network", "base", "--signer", signer, "--rpc-url", "http://127.0.0.1:1"]
    arguments += ["--credential", f"address:0x{'11' * 20}"]
    assert cli.main(["init", *arguments, "--yes", "--json"]) == (0 if taken else 2)
    if taken:
        assert f"COORDINATOR_SIGNER={signer}\n" in (home / ".env").read_text()
    else:
        assert "on base the key is kept in a keystore" in capsys.readouterr().out
