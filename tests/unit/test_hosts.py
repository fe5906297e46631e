"""Certificates are what every wallet signs, and host keys are their owner's alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.chain.signers.signers import Signer
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.hosts import (
    Certificate,
    HostRole,
    Trust,
    TypedData,
    host_name_of,
    parse_host_name,
    parse_public_key,
)
from coordinator.ledger.audit.host_key import HostKey, is_signed
from coordinator.ledger.audit.hosts import signer_of

KEY = b"t" * 32
TREASURY = address_of_key(KEY)
TRUST = Trust(TREASURY, 84532, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
CERTIFICATE = Certificate(
    name="server-1",
    public_key="ab" * 32,
    role=HostRole.DECIDER,
    after_row=12,
    certified_at=1_767_268_800,
)
MESSAGES = [
    CERTIFICATE.message(TRUST),
    CERTIFICATE.revocation(TRUST, last_row=15, revoked_at=1_767_268_900),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_typed_data_as_wallets_sign_it(message: TypedData) -> None:
    theirs = Account.sign_message(encode_typed_data(full_message=message.document()), KEY)

    ours = Signer.of_key(KEY).sign_typed(message)

    assert ours == "0x" + theirs.signature.hex().removeprefix("0x")
    assert signer_of(message, ours) == TREASURY


@pytest.mark.parametrize("signature", ["", "0x", "zz", "0x" + "00" * 65, "0x" + "ff" * 64 + "1b"])
def test_what_is_no_signature_is_nobodys(signature: str) -> None:
    assert signer_of(MESSAGES[0], signature) is None


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "worker.hostkey"

    made = HostKey.load(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert HostKey.load(path).public_key == made.public_key
    assert [file.name for file in path.parent.iterdir()] == ["worker.hostkey"]
    assert path.read_text().strip() not in repr(made)


def test_a_file_that_holds_no_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret words")
    with pytest.raises(ConfigurationError, match="is not a host key") as refused:
        HostKey.load(path)
    assert "secret" not in str(refused.value).replace(str(path), "")


def test_a_signature_is_its_keys_over_its_message_alone() -> None:
    key, other = HostKey(b"a" * 32), HostKey(b"b" * 32)
    signature = key.sign(b"row")

    assert is_signed(key.public_key, signature, b"row")
    assert not is_signed(key.public_key, signature, b"another")
    assert not is_signed(other.public_key, signature, b"row")
    for broken in ("", "zz", signature[:-2]):
        assert not is_signed(key.public_key, broken, b"row")
        assert not is_signed(broken, signature, b"row")


@pytest.mark.parametrize("machine", ["Web 1.example", "-", "", "ä", "UPPER_case", "x" * 99])
def test_any_machine_has_a_host_name(machine: str) -> None:
    name = host_name_of(machine, HostRole.DECIDER)
    assert parse_host_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a:b", "x" * 61])
def test_names_that_rows_could_not_carry_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        parse_host_name(name)


@pytest.mark.parametrize("key", ["", "ab" * 31, "ab" * 33, "zz" * 32])
def test_a_public_key_is_64_hex_digits(key: str) -> None:
    with pytest.raises(ValueError, match=re.escape("64 hex digits")):
        parse_public_key(key)
