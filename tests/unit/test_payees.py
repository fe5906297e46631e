"""Addresses that nobody may be paid at."""

from __future__ import annotations

import pytest

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.payees import contracts_of, not_payable
from coordinator.domain.policy.text import parse_policy

OWN = {
    "treasury": "0x" + "a1" * 20,
    "usdc": "0x" + "b2" * 20,
    "vault": "0x" + "c3" * 20,
    "kernel": "0x" + "d4" * 20,
}
CONTRACTS = contracts_of(**OWN)
NOBODY = [
    "0x" + "0" * 40,
    "0x" + "0" * 39 + "1",
    "0x" + "0" * 37 + "100",
    "0x" + "0" * 36 + "ffff",
    "0x000000000000000000000000000000000000dEaD",
    "0x" + "ff" * 20,
    "0x4200000000000000000000000000000000000006",
]


@pytest.mark.parametrize("address", [*OWN.values(), *(a.upper() for a in OWN.values())])
def test_the_treasury_and_its_contracts_are_no_payees(address: str) -> None:
    assert not_payable("0x" + address[2:], CONTRACTS) is not None
    assert not_payable("0x" + address[2:], {}) is None


@pytest.mark.parametrize("address", NOBODY)
def test_what_nobody_has_the_key_of_is_no_payee(address: str) -> None:
    assert not_payable(address, {}) is not None


@pytest.mark.parametrize(
    "address",
    [
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x" + "0" * 35 + "10000",
        "0x4199999999999999999999999999999999999999",
    ],
)
def test_others_can_be_paid(address: str) -> None:
    assert not_payable(address, CONTRACTS) is None


@pytest.mark.parametrize("address", [a for a in NOBODY if int(a, 16)])
def test_a_policy_that_pays_nobody_has_a_fault_at_its_line(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r":2: providers\.p\.address: .* is nobody's"):
        parse_policy(f'[providers.p]\naddress = "{address.lower()}"\n')
