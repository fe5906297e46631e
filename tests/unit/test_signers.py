"""Keys are opened and compared with their address; well-known ones are for local chains."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from coordinator.chain.networks import DEVELOPMENT_ACCOUNTS
from coordinator.chain.signers.keystores import (
    KeystoreFile,
    find_keystore,
    list_keystores,
    open_keystore,
)
from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.config import Secrets, load_settings
from coordinator.doctor.local import LocalPatient
from coordinator.domain.errors import ConfigurationError
from coordinator.wiring import Wiring

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
PASSWORD = {"COORDINATOR_KEYSTORE_PASSWORD": "correct horse"}
MNEMONIC = "test test test test test test test test test test test junk"


def keystore(folder: Path, **changes: Any) -> Path:
    """A keystore file whose password is quick to try; None takes a field out."""
    document = Account.encrypt(KEY, "correct horse", kdf="pbkdf2", iterations=2) | changes
    path = folder / "key.json"
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return path


@pytest.mark.parametrize("claimed", [None, ""], ids=["none", "empty"])
def test_a_keystore_that_does_not_say_its_address_is_opened(
    tmp_path: Path, claimed: str | None
) -> None:
    path = keystore(tmp_path, address=claimed)
    signer = load_signer(f"keystore:{path}", PASSWORD)
    signer.open()
    assert signer.address == address_of_key(KEY)
    assert open_keystore(path, "correct horse") == KEY
    assert list(list_keystores(tmp_path)) == [KeystoreFile(path, None)]


def test_a_keystore_of_another_key_than_it_says_is_refused_when_it_is_opened(
    tmp_path: Path,
) -> None:
    path = keystore(tmp_path, address="ab" * 20)
    signer = load_signer(f"keystore:{path}", PASSWORD)
    with pytest.raises(ConfigurationError, match=f"holds the key of {address_of_key(KEY)}"):
        signer.open()


@pytest.mark.parametrize("claimed", [address_of_key(KEY)[2:], None])
def test_a_wrong_password_is_told_and_not_repeated(tmp_path: Path, claimed: str | None) -> None:
    path = keystore(tmp_path, address=claimed)
    with pytest.raises(ConfigurationError, match="password does not open") as refused:
        load_signer(f"keystore:{path}", {"COORDINATOR_KEYSTORE_PASSWORD": "secret"}).open()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"address": 7, "crypto": {}}'])
def test_what_is_no_keystore_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a readable keystore file"):
        load_signer(f"keystore:{path}", PASSWORD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keystore:", "must be env:NAME, keystore:PATH, aws-kms:KEY_ID, pkcs11:URI"),
        ("kms:alias/treasury", "must be env:NAME"),
        ("address:0x12", "must be followed by the account's address"),
        ("aws-kms:" + KEY.hex(), "a key's id, ARN or alias/NAME"),
        ("aws-kms:alias/treasury?region=eu", "at most \\?address="),
        ("aws-kms:alias/treasury?address=0x12", "must be followed by the account's address"),
        ("aws-kms:alias/treasury?address=0x1&address=0x2", "address= twice"),
        ("pkcs11:token=t;object=k", "must be like pkcs11:token=LABEL"),
        ("pkcs11:token=t?module-path=/m.so", "must be like pkcs11:token=LABEL"),
        ("pkcs11:object=k;object=l?module-path=/m.so", "each part once"),
        ("pkcs11:object=k;slot=0?module-path=/m.so", "each part once"),
        ("pkcs11:object=k;type=public?module-path=/m.so", "type=private"),
        ("pkcs11:object=k?module-path=/m.so&pin-value=secret", "COORDINATOR_PKCS11_PIN_FILE"),
        ("pkcs11:object=k?module-path=/m.so&pin-source=file:/secret", "COORDINATOR_PKCS11_PIN"),
        ("pkcs11:object=k?module-path=/m.so&max=1", "must be like pkcs11:token=LABEL"),
    ],
)
def test_a_setting_that_is_wrong_is_told_without_what_may_be_a_secret(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        load_signer(text, {}, setting="APPROVER_SIGNER")
    assert KEY.hex() not in str(refused.value)
    assert "secret" not in str(refused.value).removeprefix("a pkcs11: URI is no place for ")


def test_a_setting_names_the_account_it_is_for() -> None:
    with pytest.raises(ConfigurationError, match=r"^APPROVER_SIGNER must be"):
        load_signer("", {}, setting="APPROVER_SIGNER")
    signer = load_signer(f"address:{address_of_key(KEY)}", {}, setting="APPROVER_SIGNER")
    assert not signer.can_sign
    with pytest.raises(ConfigurationError, match=r"^APPROVER_SIGNER gives only the address"):
        signer.open()


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [
        ("aws-kms:alias/treasury", "boto3", "aws-kms"),
        ("pkcs11:object=k?module-path=/m.so", "pkcs11", "pkcs11"),
    ],
)
def test_a_missing_extra_is_named_in_one_sentence(
    text: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError) as refused:
        load_signer(text, {})
    assert str(refused.value).endswith(
        f"needs {package}, which is not installed: pip install 'usdc-escrow-coordinator[{extra}]'"
    )


def test_a_keystore_is_found_by_its_name_in_foundrys_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".foundry/keystores"
    folder.mkdir(parents=True)
    found = keystore(folder).rename(folder / "treasury")
    assert load_signer("keystore:treasury", PASSWORD).address == address_of_key(KEY)
    assert find_keystore("treasury") == found
    here = tmp_path / "treasury"
    here.write_text("{}")
    assert find_keystore("treasury") == Path("treasury")
    with pytest.raises(ConfigurationError, match="is not a readable keystore"):
        load_signer("keystore:treasury", PASSWORD)


@pytest.mark.parametrize("network", ["base", "base-sepolia"])
def test_a_key_in_the_environment_is_refused_on_base(network: str) -> None:
    env = environment(network, KEY)
    wiring = Wiring(load_settings(env), Secrets(env))
    if network != "base":
        assert wiring.signer.can_sign
        return
    with pytest.raises(ConfigurationError, match="refused on base"):
        wiring.signer  # noqa: B018
    (key,) = (c for c in LocalPatient(env).checks_before_the_chain() if c.name == "key")
    assert (key.status, key.found) == ("fail", "a key in the environment is refused on base")


def test_the_well_known_accounts_are_those_of_the_test_mnemonic() -> None:
    Account.enable_unaudited_hdwallet_features()
    paths = [f"m/44'/60'/0'/0/{number}" for number in range(10)]
    made = tuple(Account.from_mnemonic(MNEMONIC, account_path=path).address for path in paths)
    assert made == DEVELOPMENT_ACCOUNTS


def environment(network: str, key: bytes) -> dict[str, str]:
    return {
        "COORDINATOR_NETWORK": network,
        "TREASURY_PRIVATE_KEY": "0x" + key.hex(),
        "COORDINATOR_ID_SECRET": "22" * 32,
    }


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("network", ["anvil", "simulated", "base-sepolia"])
def test_a_key_that_everybody_has_is_for_local_chains_alone(network: str, number: int) -> None:
    Account.enable_unaudited_hdwallet_features()
    path = f"m/44'/60'/0'/0/{number}"
    env = environment(network, bytes(Account.from_mnemonic(MNEMONIC, account_path=path).key))
    wiring = Wiring(load_settings(env), Secrets(env))
    if network == "base-sepolia":
        with pytest.raises(ConfigurationError, match="well-known development account"):
            wiring.signer  # noqa: B018
    else:
        assert wiring.signer.address in DEVELOPMENT_ACCOUNTS


def test_the_doctor_opens_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keystore(tmp_path, address="ab" * 20)
    monkeypatch.chdir(tmp_path)
    env = {"COORDINATOR_SIGNER": f"keystore:{path}", **PASSWORD}
    (key,) = (c for c in LocalPatient(env).checks_before_the_chain() if c.name == "key")
    assert key.status == "fail"
    assert "holds the key of" in key.found
