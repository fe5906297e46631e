"""An escrow key is secret, and the same whenever it is computed again."""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.chain.escrow_key import EscrowKeys, audit_key, service_hash

SECRET = bytes(range(32))
KERNEL = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
KEYS = EscrowKeys(SECRET, 84532, KERNEL)


def test_the_key_is_an_hmac_over_chain_kernel_agent_and_idempotency_key() -> None:
    message = f'["escrow",84532,"{KERNEL.lower()}","research-agent","task-42/papers"]'
    made = hmac.new(SECRET, message.encode(), sha256).hexdigest()
    assert KEYS.key("research-agent", "task-42/papers") == "0x" + made


def test_the_key_of_a_purchase_is_the_same_after_everything_else_is_lost() -> None:
    again = EscrowKeys(bytes(SECRET), 84532, KERNEL.lower())
    assert again.key("a", "k") == KEYS.key("a", "k")
    assert re.fullmatch(r"0x[0-9a-f]{64}", again.key("a", "k"))


@pytest.mark.parametrize(
    "other",
    [
        EscrowKeys(b"x" * 32, 84532, KERNEL),
        EscrowKeys(SECRET, 8453, KERNEL),
        EscrowKeys(SECRET, 84532, "0x" + "11" * 20),
    ],
    ids=["secret", "chain", "kernel"],
)
def test_another_secret_chain_or_kernel_makes_another_key(other: EscrowKeys) -> None:
    assert other.key("a", "k") != KEYS.key("a", "k")


names = st.text(max_size=12).filter(lambda text: text.isprintable())


@given(names, names, names, names)
def test_two_purchases_share_a_key_only_when_agent_and_idempotency_key_are_the_same(
    agent: str, key: str, other_agent: str, other_key: str
) -> None:
    same = (agent, key) == (other_agent, other_key)
    assert (KEYS.key(agent, key) == KEYS.key(other_agent, other_key)) == same


def test_a_part_of_the_agent_never_slides_into_the_key() -> None:
    made = {
        KEYS.key(agent, key)
        for agent, key in [("ab", "c"), ("a", "bc"), ('a","b', "c"), ("a", 'b","c'), ("", "abc")]
    }
    assert len(made) == 5


def test_the_secret_is_not_shown() -> None:
    assert repr(SECRET) not in repr(KEYS)
    assert "secret" not in repr(KEYS)


def test_the_audit_key_is_not_the_secret_and_no_escrow_key() -> None:
    assert audit_key(SECRET) == audit_key(bytes(SECRET))
    assert audit_key(SECRET) != SECRET
    assert audit_key(SECRET) != audit_key(b"x" * 32)
    assert len(audit_key(SECRET)) == 32


def test_a_service_is_known_by_the_keccak_of_its_name() -> None:
    assert service_hash("hello") == (
        "0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8"
    )


@pytest.mark.parametrize("service", [None, ""])
def test_no_service_is_32_zero_bytes(service: str | None) -> None:
    assert service_hash(service) == "0x" + "00" * 32
