"""Owners read what a call does, whatever it was made to look like."""

from __future__ import annotations

import pytest

from coordinator.chain.safe.addresses import MODULE_PROXY_FACTORY, ROLES
from coordinator.chain.safe.allowances import UNLIMITED, Allowance
from coordinator.chain.safe.conditions import (
    Condition,
    Operator,
    ParamType,
    any_of,
    anything,
    call_with,
    equal_to,
    less_than,
)
from coordinator.chain.safe.configuration import (
    APPROVE,
    CREATE,
    DAILY,
    DISPUTE_COUNT,
    PURCHASES,
    TRANSFER,
    Places,
)
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.roles import (
    ASSIGN_ROLES,
    DEPLOY_MODULE,
    SCOPE_FUNCTION,
    SET_UNWRAPPER,
    assign_roles,
    deploy_module,
    scope_function,
    set_allowance,
)
from coordinator.chain.safe.safe_transactions import ENABLE_MODULE
from coordinator.chain.safe.words import in_words, names_of
from coordinator.domain.address import checksummed

SAFE, ROLE, KERNEL, VAULT, USDC, MEMBER, PAPERS, THIEF = (
    checksummed("0x" + digit * 40) for digit in "12345678"
)
PLACES = Places(safe=SAFE, roles=ROLE, kernel=KERNEL, vault=VAULT, usdc=USDC)
NAMES = names_of(PLACES, MEMBER, {"papers": PAPERS})
UNKNOWN = "NOT KNOWN HERE"


def words(to: str, data: bytes, title: str = "set the usual limits") -> str:
    return in_words(InnerCall(to, data, title), PLACES, NAMES)


def scoped(*parameters: Condition) -> str:
    return words(ROLE, scope_function(PURCHASES, KERNEL, CREATE.selector, call_with(*parameters)))


def test_what_may_be_bought_is_said_by_names() -> None:
    said = scoped(equal_to(PAPERS), anything(), less_than(100_000_001), less_than(1_900_000_000))
    assert said == (
        f"let the role coordinator call createTransaction of the kernel {KERNEL} where the provider"
        f" is papers ({PAPERS}); the amount is at most 100.00 USDC; the deadline is before"
        " 2030-03-17 17:46:40 UTC"
    )
    assert f"the provider is papers ({PAPERS}) or {THIEF};" in scoped(
        any_of(equal_to(PAPERS), equal_to(THIEF)), anything(), less_than(2)
    )


def test_a_choice_that_lets_anything_pass_is_no_condition() -> None:
    assert scoped(any_of(equal_to(PAPERS), anything())).endswith("WITH ANYTHING")
    assert scoped(anything()).endswith("WITH ANYTHING")


@pytest.mark.parametrize(
    ("kind", "operator"),
    [(ParamType.STATIC, 17), (ParamType.CALLDATA, 5), (ParamType.NONE, 4)],
)
def test_conditions_of_another_kind_are_not_known(kind: int, operator: int) -> None:
    rows = [
        (0, int(ParamType.CALLDATA), int(Operator.MATCHES), b""),
        (0, int(kind), operator, bytes(32)),
    ]
    data = SCOPE_FUNCTION.call(PURCHASES, KERNEL, CREATE.selector, rows, 0)
    assert words(ROLE, data).startswith(UNKNOWN)


def test_a_function_with_options_is_not_known() -> None:
    rows = [(0, int(ParamType.CALLDATA), int(Operator.MATCHES), b"")]
    data = SCOPE_FUNCTION.call(PURCHASES, KERNEL, CREATE.selector, rows, 3)
    assert words(ROLE, data).startswith(UNKNOWN)


def test_an_allowance_without_a_limit_is_shouted() -> None:
    open_end = Allowance(refill=1, max_refill=0, period=60, balance=UNLIMITED, timestamp=0)
    assert "WITHOUT A LIMIT" in words(ROLE, set_allowance(DAILY, open_end))
    full = Allowance.bucket(3, refill=3, period=86_400)
    assert words(ROLE, set_allowance(DISPUTE_COUNT, full)) == (
        "set the allowance disputes to 3; 3 come back every 1440 minutes, up to 3"
    )


def test_a_key_is_named_by_what_it_is_and_not_by_a_title() -> None:
    assert words(ROLE, assign_roles(MEMBER, [PURCHASES])) == (
        f"give the role coordinator to the worker's key {MEMBER}"
    )
    assert words(ROLE, assign_roles(THIEF, [PURCHASES])) == f"give the role coordinator to {THIEF}"
    assert words(ROLE, ASSIGN_ROLES.call(THIEF, [PURCHASES], [])).startswith(UNKNOWN)


def test_a_foreign_module_or_unwrapper_is_not_taken_for_ours() -> None:
    assert words(SAFE, ENABLE_MODULE.call(THIEF)).startswith(f"let {THIEF} act in the Safe's name")
    assert "ANOTHER unwrapper" in words(ROLE, SET_UNWRAPPER.call(THIEF, b"\x8d\x80\xff\x0a", THIEF))
    factory = MODULE_PROXY_FACTORY.address
    assert words(factory, deploy_module(SAFE, 0)).startswith("deploy the Safe's own roles")
    assert words(factory, deploy_module(THIEF, 0)).startswith(UNKNOWN)
    other = DEPLOY_MODULE.call(ROLES.address, b"\x01", 0)
    assert words(factory, other).startswith(UNKNOWN)


@pytest.mark.parametrize(
    ("to", "data"),
    [
        (KERNEL, APPROVE.call(VAULT, 0)),
        (USDC, APPROVE.call(VAULT, 0) + bytes(1)),
        (USDC, APPROVE.call(VAULT, 0)[:-1]),
        (USDC, TRANSFER.selector),
        (USDC, b""),
        (THIEF, bytes(500)),
    ],
)
def test_what_is_not_exactly_a_known_call_is_told_as_such(to: str, data: bytes) -> None:
    assert words(to, data, "take back any approval").startswith(UNKNOWN)
