"""Addresses carry a checksum; one that is mistyped is not paid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.address import ZERO_ADDRESS, checksummed, keccak256, looks_like_address

# The examples of EIP-55.
EIP_55 = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]
addresses = (
    st.binary(min_size=20, max_size=20).filter(any).map(lambda b: checksummed("0x" + b.hex()))
)


@pytest.mark.parametrize("address", EIP_55)
def test_the_checksum_is_that_of_eip_55(address: str) -> None:
    assert checksummed(address) == address
    assert checksummed(address.lower()) == address
    assert checksummed("0x" + address[2:].upper()) == address


@given(addresses, st.integers(min_value=2, max_value=41))
def test_one_letter_in_the_wrong_case_is_a_wrong_checksum(address: str, position: int) -> None:
    changed = address[:position] + address[position].swapcase() + address[position + 1 :]
    digits = changed[2:]
    if changed == address or digits in (digits.lower(), digits.upper()):
        return
    with pytest.raises(ValueError, match="wrong checksum"):
        checksummed(changed)


@given(addresses)
def test_a_checksummed_address_is_kept_as_it_is(address: str) -> None:
    assert checksummed(address) == address


def test_a_mistyped_digit_under_a_checksum_is_refused() -> None:
    with pytest.raises(ValueError, match="wrong checksum"):
        checksummed("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee")


def test_the_zero_address_is_refused() -> None:
    assert int(ZERO_ADDRESS, 16) == 0
    with pytest.raises(ValueError, match="zero address"):
        checksummed(ZERO_ADDRESS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0x1234",
        EIP_55[0][2:],
        EIP_55[0][:-1],
        EIP_55[0] + "0",
        " " + EIP_55[0],
        EIP_55[0] + "\n",
        "0X" + EIP_55[0][2:],
        "0x" + "g" * 40,
        "0x" + "１" * 40,  # noqa: RUF001
        "vitalik.eth",
        pytest.param("x" * 1_000_000, id="huge"),
    ],
)
def test_what_is_not_forty_hex_digits_is_refused_briefly(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address") as refused:
        checksummed(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(("text", "meant"), [("0xabc", True), ("0Xabc", True), ("x0", False)])
def test_what_starts_with_0x_was_meant_as_an_address(text: str, meant: bool) -> None:
    assert looks_like_address(text) is meant
    assert not looks_like_address("")


def test_keccak_is_ethereums_and_not_sha3() -> None:
    assert keccak256(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )
