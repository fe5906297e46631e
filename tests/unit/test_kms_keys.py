"""A key in AWS KMS signs for its own address alone, and what AWS answers is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from eth_account import Account
from moto import mock_aws
from moto.kms.utils import ECDSAPrivateKey

from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.secp256k1 import ORDER
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import ConfigurationError, SignerUnavailable
from coordinator.domain.typed_data import Trust, TypedData

OTHER = "0x" + "ab" * 20
CALL = Call(kind=StepKind.CREATE, to="0x" + "12" * 20, data="0x1234", gas_limit=21_000)


class Kms:
    """A KMS whose signatures have a high s, or a low one."""

    def __init__(self) -> None:
        self.client: Any = boto3.client("kms")
        self.high = False
        self.signed = 0

    def make(self, spec: str = "ECC_SECG_P256K1", usage: str = "SIGN_VERIFY") -> str:
        found = self.client.create_key(KeySpec=spec, KeyUsage=usage)
        return str(found["KeyMetadata"]["Arn"])

    def sign(self, key: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
        """Sign a digest as it is: moto hashes it once more, whatever MessageType says."""
        self.signed += 1
        r, s = decode_dss_signature(
            key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
        )
        return encode_dss_signature(r, max(s, ORDER - s) if self.high else min(s, ORDER - s))


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        made = Kms()

        def sign(key: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
            return made.sign(key, message, signing_algorithm)

        monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)
        yield made


@pytest.mark.parametrize("high", [False, True], ids=["low s", "high s"])
def test_transactions_and_messages_are_by_the_keys_address(kms: Kms, high: bool) -> None:
    kms.high = high
    signer = load_signer(f"aws-kms:{kms.make()}", {})
    attempt = signer.sign(CALL, nonce=7, fees=Fees(10, 2), chain_id=84532)
    assert Account.recover_transaction(attempt.raw) == signer.address
    message = TypedData(Trust(OTHER, 1, OTHER), "Note", (("text", "string"),), ("hello",))
    signature = bytes.fromhex(signer.sign_typed(message)[2:])
    assert Account._recover_hash(message.digest, signature=signature) == signer.address
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2


def test_an_address_in_the_setting_is_known_without_aws_and_compared_at_opening(kms: Kms) -> None:
    arn = kms.make()
    address = load_signer(f"aws-kms:{arn}", {}).address
    assert load_signer("aws-kms:alias/none?address=" + OTHER, {}).address.lower() == OTHER
    load_signer(f"aws-kms:{arn}?address={address}", {}).open()
    wrong = load_signer(f"aws-kms:{arn}?address={OTHER}", {})
    with pytest.raises(ConfigurationError, match=f"holds the key of {address}"):
        wrong.sign(CALL, nonce=0, fees=Fees(1, 1), chain_id=1)
    assert kms.signed == 0


def test_an_alias_that_is_given_to_another_key_changes_nothing(kms: Kms) -> None:
    kms.client.create_alias(AliasName="alias/treasury", TargetKeyId=kms.make())
    signer = load_signer("aws-kms:alias/treasury", {})
    kms.client.update_alias(AliasName="alias/treasury", TargetKeyId=kms.make())
    attempt = signer.sign(CALL, nonce=0, fees=Fees(1, 1), chain_id=1)
    assert Account.recover_transaction(attempt.raw) == signer.address


@pytest.mark.parametrize(
    ("spec", "usage"), [("ECC_NIST_P256", "SIGN_VERIFY"), ("RSA_2048", "ENCRYPT_DECRYPT")]
)
def test_a_key_of_another_kind_is_refused(kms: Kms, spec: str, usage: str) -> None:
    key = kms.make(spec, usage)
    with pytest.raises(ConfigurationError, match="make one with --key-spec ECC_SECG_P256K1"):
        load_signer(f"aws-kms:{key}", {})


def test_what_a_person_must_mend_is_a_fault_of_the_configuration(
    kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="NotFoundException; nothing was signed"):
        load_signer("aws-kms:alias/none", {})
    signer = load_signer(f"aws-kms:{kms.make()}", {})
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="region"):
        load_signer("aws-kms:alias/none", {})
    refuse(monkeypatch, "AccessDeniedException")
    with pytest.raises(ConfigurationError, match="AWS refused with AccessDeniedException"):
        signer.sign(CALL, nonce=0, fees=Fees(1, 1), chain_id=1)


@pytest.mark.parametrize("said", ["ThrottlingException", "ExpiredTokenException", "no answer"])
def test_what_may_pass_is_tried_again_later_and_nothing_is_signed(
    kms: Kms, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    signer = load_signer(f"aws-kms:{kms.make()}", {})
    with monkeypatch.context() as patch:
        refuse(patch, said)
        with pytest.raises(SignerUnavailable, match=f"{said}.*nothing was signed") as refused:
            signer.sign(CALL, nonce=0, fees=Fees(1, 1), chain_id=1)
    assert refused.value.money_moved is False
    assert "kms.eu-west-1" not in str(refused.value)
    signer.sign(CALL, nonce=0, fees=Fees(1, 1), chain_id=1)


def refuse(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let AWS answer so to everything, or not at all."""

    def answer(*_: object, **__: object) -> None:
        if code == "no answer":
            raise ConnectTimeoutError(endpoint_url="kms.eu-west-1")
        raise ClientError({"Error": {"Code": code, "Message": "secret"}}, "Sign")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", answer)
