"""Our bytes of a transaction are those that a general library makes, and as strict."""

from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call, StepKind

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
TREASURY = address_of_key(KEY)
# Lengths and numbers around which their encoding changes its form.
EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**63 - 1]
NUMBERS = st.sampled_from(EDGES) | st.integers(0, 2**63 - 1)
DATA = st.sampled_from([0, 1, 54, 55, 56, 57, 255, 256, 70_000]).map(bytes) | st.binary(max_size=70)


def signed(call: Call, nonce: int, fees: Fees, chain_id: int) -> tuple[str, str]:
    made = Signer.of_key(KEY).sign(call, nonce=nonce, fees=fees, chain_id=chain_id)
    return made.raw, made.hash


def to(recipient: str, data: bytes = b"", gas_limit: int = 21_000) -> Call:
    return Call(kind=StepKind.FILL, to=recipient, data="0x" + data.hex(), gas_limit=gas_limit)


@given(nonce=NUMBERS, tip=NUMBERS, more=NUMBERS, gas=NUMBERS, chain_id=NUMBERS, data=DATA)
def test_a_signed_transaction_is_what_a_general_library_makes(
    nonce: int, tip: int, more: int, gas: int, chain_id: int, data: bytes
) -> None:
    fees = Fees(tip + more, tip)
    expected = Account.from_key(KEY).sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": TREASURY,
            "value": 0,
            "data": data,
            "gas": gas,
            "maxFeePerGas": fees.max_fee_per_gas,
            "maxPriorityFeePerGas": fees.max_priority_fee_per_gas,
        }
    )
    assert signed(to(TREASURY, data, gas), nonce, fees, chain_id) == (
        "0x" + expected.raw_transaction.hex().removeprefix("0x"),
        "0x" + expected.hash.hex().removeprefix("0x"),
    )


@pytest.mark.parametrize(
    "recipient", ["0x", "0x" + "ab" * 19, TREASURY.swapcase().replace("X", "x")]
)
def test_nothing_is_signed_to_what_is_no_address(recipient: str) -> None:
    with pytest.raises(ValueError):
        signed(to(recipient), 0, Fees(1, 1), 1)


def test_no_field_is_negative() -> None:
    with pytest.raises(OverflowError):
        signed(to(TREASURY), -1, Fees(1, 1), 1)
