"""Signatures have the form that the chain takes, and are the account's, whoever made them."""

from __future__ import annotations

from typing import Any

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.signers.secp256k1 import ORDER, address_of_key, make_recoverable
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import ConfigurationError

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ADDRESS = address_of_key(KEY)
DIGEST = b"\x05" * 32

amounts = st.integers(0, 2**64 - 1)
fields = st.fixed_dictionaries(
    {
        "type": st.just(2),
        "chainId": st.integers(1, 2**32),
        "nonce": amounts,
        "to": st.binary(min_size=20, max_size=20).filter(any).map(to_checksum_address),
        "value": st.integers(0, 2**128),
        "data": st.binary(max_size=300).map(lambda data: "0x" + data.hex()),
        "gas": amounts,
        "maxFeePerGas": amounts,
        "maxPriorityFeePerGas": amounts,
    }
)


@given(fields, st.booleans())
def test_a_complete_transaction_is_signed_as_a_general_library_does(
    fields: dict[str, Any], creates: bool
) -> None:
    if creates:
        del fields["to"]
    theirs = Account.sign_transaction(fields, KEY)
    assert Signer.of_key(KEY).sign_raw(fields) == "0x" + bytes(theirs.raw_transaction).hex()


@pytest.mark.parametrize("more", [{"type": 1}, {"accessList": []}, {"gasPrice": 1}])
def test_another_kind_of_transaction_is_not_signed(more: dict[str, Any]) -> None:
    fields = {"type": 2, "chainId": 1, "nonce": 0, "to": ADDRESS, "value": 0, "data": "0x"}
    fields |= {"gas": 1, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1} | more
    with pytest.raises(ValueError):
        Signer.of_key(KEY).sign_raw(fields)


@given(st.binary(min_size=32, max_size=32))
def test_high_and_low_s_become_the_same_recoverable_signature(digest: bytes) -> None:
    made = PrivateKey(KEY).sign_recoverable(digest, hasher=None)
    r, s = made[:32], int.from_bytes(made[32:64], "big")
    for either in (s, ORDER - s):
        assert make_recoverable(r + either.to_bytes(32, "big"), digest, ADDRESS) == made


ZERO, MOST = bytes(32), ORDER.to_bytes(32, "big")


class Device:
    """A device that answers with given bytes."""

    name = "the device"

    def __init__(self, signature: bytes) -> None:
        self.signature = signature

    def open(self) -> str:
        return ADDRESS

    def sign(self, digest: bytes) -> bytes:
        return self.signature


@pytest.mark.parametrize(
    "signature",
    [
        PrivateKey(b"\x01" * 32).sign_recoverable(DIGEST, hasher=None)[:64],
        PrivateKey(KEY).sign_recoverable(b"\x06" * 32, hasher=None)[:64],
        DIGEST + ZERO,
        ZERO + DIGEST,
        DIGEST + MOST,
        MOST + DIGEST,
        b"\xff" * 64,
        b"",
        b"\x01" * 63,
    ],
    ids=[
        *("another key", "another digest", "s is zero", "r is zero", "s is the order"),
        *("r is the order", "too large", "empty", "short"),
    ],
)
def test_a_signature_that_is_not_the_accounts_is_refused(signature: bytes) -> None:
    call = Call(kind=StepKind.CREATE, to=ADDRESS, data="0x", gas_limit=21_000)
    signer = Signer(ADDRESS, Device(signature))
    with pytest.raises(ConfigurationError, match=f"the device gave .* not by {ADDRESS}"):
        signer.sign(call, nonce=0, fees=Fees(1, 1), chain_id=1)
