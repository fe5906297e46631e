"""A treasury's storage is what its limits say, and whatever differs is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.configuration import (
    APPROVE,
    CREATE,
    DAILY,
    DISPUTES,
    PURCHASES,
    TRANSFER,
    Places,
    allowances,
    configure,
    name,
    scopes,
)
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import MULTI_SEND_FUNCTION, InnerCall
from coordinator.chain.safe.proof import Expected, expected, read
from coordinator.chain.safe.safe_transactions import ENABLE_MODULE
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, checksummed
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury

SENTINEL: Final = "0x" + "1".rjust(40, "0")
STRANGER: Final = checksummed("0x" + "57" * 20)


def differences(treasury: SafeTreasury) -> list[str]:
    asked = asked_of(treasury)
    return asked.differences(read(treasury.chain.rpc, asked))


def asked_of(treasury: SafeTreasury) -> Expected:
    return expected(treasury.places, treasury.limits, time=treasury.chain.time)


def some(count: int) -> tuple[str, ...]:
    """As many addresses, none of which is another's."""
    return tuple(checksummed(f"0x{number:040x}") for number in range(1000, 1000 + count))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"total": None, "disputes": None, "x402": None},
        {"threshold": 3},
        {"providers": some(1)},
        {"providers": some(301)},
    ],
    ids=["usual", "only purchases", "three sign", "one provider", "301 providers"],
)
def test_the_storage_of_a_treasury_is_what_its_limits_say(
    make_treasury: Callable[..., SafeTreasury], changes: dict[str, Any]
) -> None:
    assert differences(make_treasury(**changes)) == []


def test_it_is_so_after_purchases(treasury: SafeTreasury) -> None:
    treasury.buy("40", "60")
    assert differences(treasury) == []


def test_every_changed_byte_is_named_but_for_less_left_of_an_allowance(
    treasury: SafeTreasury,
) -> None:
    asked = asked_of(treasury)
    proved = read(treasury.chain.rpc, asked)
    unnamed = set()
    for due, word in zip(asked.words, proved.words.values(), strict=True):
        for bit in range(256):
            if not [*due.differences(word ^ 1 << bit)]:
                (part,) = [p for p in due.parts if p.start <= bit < p.start + p.bits]
                unnamed.add(part.title)
                assert word >> bit & 1, "only less will do"
    keys = [name(key) for key in allowances(treasury.limits)]
    assert unnamed == {
        f"the {what} of the allowance {k}" for k in keys for what in ("rest", "time")
    }


def test_no_code_and_other_code_are_named(treasury: SafeTreasury) -> None:
    for code, told in (("0x", "no code"), ("0x6001", "other code")):
        treasury.chain.rpc.call("anvil_setCode", MULTI_SEND.address, code)
        assert differences(treasury) == [f"there is {told} at {MULTI_SEND.address}"]


def limits_with(treasury: SafeTreasury, **changes: Any) -> tuple[Places, ChainLimits]:
    return treasury.places, replace(treasury.limits, **changes)


def one_scope(treasury: SafeTreasury, function: Signature, **changes: Any) -> InnerCall:
    """The owners' call that scopes one function of the purchases by other limits."""
    (scope,) = [
        scope
        for scope in scopes(*limits_with(treasury, **changes))
        if scope.function == function and scope.role == PURCHASES
    ]
    data = roles.scope_function(PURCHASES, scope.target, function.selector, scope.condition)
    return InnerCall(treasury.places.roles, data)


def one_allowance(treasury: SafeTreasury, **changes: Any) -> InnerCall:
    changed = replace(treasury.limits.bucket, **changes)
    return InnerCall(treasury.places.roles, roles.set_allowance(DAILY, changed))


def of_safe(treasury: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(treasury.address, Signature(signature).call(*arguments))


def of_roles(treasury: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(treasury.places.roles, Signature(signature).call(*arguments))


Change = Callable[[SafeTreasury], InnerCall]
CHANGES: Final[dict[str, tuple[Change, str]]] = {
    "threshold": (
        lambda t: of_safe(t, "changeThreshold(uint256)", 1),
        "the Safe's threshold is 1, not 2",
    ),
    "an owner more": (
        lambda t: of_safe(t, "addOwnerWithThreshold(address,uint256)", STRANGER, 2),
        f"the Safe's owner, the first, is {STRANGER}, not ",
    ),
    "an owner swapped": (
        lambda t: of_safe(
            t, "swapOwner(address,address,address)", SENTINEL, t.limits.owners[0], STRANGER
        ),
        f"the Safe's owner, the first, is {STRANGER}, not ",
    ),
    "a second module": (
        lambda t: InnerCall(t.address, ENABLE_MODULE.call(STRANGER)),
        f"the Safe's module, the first, is {STRANGER}, not ",
    ),
    "another fallback handler": (
        lambda t: of_safe(t, "setFallbackHandler(address)", STRANGER),
        f"the Safe's fallback handler is {STRANGER}, not ",
    ),
    "another owner of the roles": (
        lambda t: of_roles(t, "transferOwnership(address)", STRANGER),
        f"the owner of the roles is {STRANGER}, not ",
    ),
    "another avatar": (
        lambda t: of_roles(t, "setAvatar(address)", STRANGER),
        f"the avatar of the roles is {STRANGER}, not ",
    ),
    "another target": (
        lambda t: of_roles(t, "setTarget(address)", STRANGER),
        f"the target of the roles is {STRANGER}, not ",
    ),
    "a second key": (
        lambda t: InnerCall(t.places.roles, roles.assign_roles(STRANGER, [PURCHASES])),
        f"the key that has roles, the first, is {STRANGER}, not ",
    ),
    "a role taken": (
        lambda t: InnerCall(
            t.places.roles, roles.assign_roles(t.member, [PURCHASES], member_of=False)
        ),
        "in the role coordinator is 0, not 1",
    ),
    "a default role": (
        lambda t: of_roles(t, "setDefaultRole(address,bytes32)", t.member, PURCHASES),
        "is coordinator, not none",
    ),
    "no unwrapper": (
        lambda t: of_roles(
            t,
            "setTransactionUnwrapper(address,bytes4,address)",
            MULTI_SEND.address,
            MULTI_SEND_FUNCTION.selector,
            ZERO_ADDRESS,
        ),
        "the unwrapper of MultiSendCallOnly is nothing, not ",
    ),
    "a contract without limits": (
        lambda t: of_roles(t, "allowTarget(bytes32,address,uint8)", PURCHASES, t.places.usdc, 0),
        "the clearance of the role coordinator",
    ),
    "a function without limits": (
        lambda t: of_roles(
            t,
            "allowFunction(bytes32,address,bytes4,uint8)",
            PURCHASES,
            t.places.usdc,
            TRANSFER.selector,
            0,
        ),
        "the wildcard of the role coordinator for transfer",
    ),
    "a function with ETH": (
        lambda t: of_roles(
            t,
            "allowFunction(bytes32,address,bytes4,uint8)",
            PURCHASES,
            t.places.usdc,
            TRANSFER.selector,
            1,
        ),
        "the options of the role coordinator for transfer",
    ),
    "a contract taken": (
        lambda t: InnerCall(t.places.roles, roles.revoke_target(PURCHASES, t.places.kernel)),
        "the clearance of the role coordinator",
    ),
    "a provider more": (
        lambda t: one_scope(t, CREATE, providers=(*t.limits.providers, STRANGER)),
        "the number of conditions of the role coordinator for createTransaction",
    ),
    "another provider": (
        lambda t: one_scope(t, CREATE, providers=(t.limits.providers[0], STRANGER)),
        "the conditions of the role coordinator for createTransaction",
    ),
    "a unit more a purchase": (
        lambda t: one_scope(t, CREATE, purchase_max=t.limits.purchase_max + Usdc("0.000001")),
        "the conditions of the role coordinator for createTransaction",
    ),
    "a second more to the deadline": (
        lambda t: one_scope(t, CREATE, deadline_before=t.limits.deadline_before + 1),
        "the conditions of the role coordinator for createTransaction",
    ),
    "no total": (
        lambda t: one_scope(t, APPROVE, total=None),
        "the conditions of the role coordinator for approve",
    ),
    "a larger bucket": (
        lambda t: one_allowance(t, max_refill=240_000_001),
        "the size of the allowance daily is 240.000001 USDC, not 240.00 USDC",
    ),
    "a larger refill": (
        lambda t: one_allowance(t, refill=10_000_001),
        "the refill of the allowance daily is 10.000001 USDC, not 10.00 USDC",
    ),
    "a shorter period": (
        lambda t: one_allowance(t, period=3599),
        "the period of the allowance daily is 3599 s, not 3600 s",
    ),
    "more left than fits": (
        lambda t: one_allowance(t, balance=240_000_001),
        "the rest of the allowance daily is 240.000001 USDC, more than 240.00 USDC",
    ),
    "a refill that waits": (
        lambda t: one_allowance(t, timestamp=t.chain.time + 86_400),
        "the time of the allowance daily is ",
    ),
    "a transfer to anybody, where nothing is for x402": (
        lambda t: of_roles(
            t,
            "allowFunction(bytes32,address,bytes4,uint8)",
            DISPUTES,
            t.places.usdc,
            TRANSFER.selector,
            0,
        ),
        "the permission of the role coordinator-disputes for transfer is 0x",
    ),
    "the zero address, which MultiSend takes for the Safe": (
        lambda t: of_roles(t, "scopeTarget(bytes32,address)", PURCHASES, ZERO_ADDRESS),
        f"the clearance of the role coordinator for {ZERO_ADDRESS} is 2, not 0",
    ),
    "a standing approval": (
        lambda t: t.approve("0.000001"),
        "is 0.000001 USDC, not 0.00 USDC",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_owners_is_named(treasury: SafeTreasury, change: str) -> None:
    call, told = CHANGES[change]

    treasury.owners_do(call(treasury))

    found = differences(treasury)
    assert any(told in one for one in found), found


def test_configuring_anew_mends_what_was_changed(treasury: SafeTreasury) -> None:
    treasury.owners_do(one_allowance(treasury, refill=1), treasury.approve("5"))
    assert len(differences(treasury)) == 2

    treasury.owners_do(*configure(treasury.places, treasury.limits))

    assert differences(treasury) == []


def test_owners_in_another_order_are_the_same_owners(treasury: SafeTreasury) -> None:
    first, second, third = treasury.limits.owners
    swap = Signature("swapOwner(address,address,address)")
    treasury.owners_do(
        InnerCall(treasury.address, swap.call(first, second, STRANGER)),
        InnerCall(treasury.address, swap.call(SENTINEL, first, second)),
        InnerCall(treasury.address, swap.call(second, STRANGER, first)),
    )
    asked = expected(
        treasury.places,
        treasury.limits,
        time=treasury.chain.time,
        owners_in_order=(second, first, third),
    )

    assert asked.differences(read(treasury.chain.rpc, asked)) == []
    assert differences(treasury) != []
