"""What owners change and a role spends is told by events, whoever did it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.conditions import call_with, equal_to
from coordinator.chain.safe.configuration import APPROVE, BONDS, DAILY, PURCHASES, TOTAL
from coordinator.chain.safe.events import (
    TOPICS,
    AllowanceSet,
    Changed,
    Consumed,
    treasury_event,
)
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.safe_transactions import DISABLE_MODULE, ENABLE_MODULE
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ChainUnavailable
from tests.integration.treasuries import SafeTreasury

SENTINEL: Final = "0x" + "1".rjust(40, "0")
STRANGER: Final = checksummed("0x" + "57" * 20)


def told(treasury: SafeTreasury, act: Callable[[], object]) -> list[Any]:
    """The events of what is done, by the filter that a follower uses."""
    begin = treasury.chain.height + 1
    act()
    asked = {
        "fromBlock": hex(begin),
        "toBlock": "latest",
        "address": [treasury.address, treasury.places.roles],
        "topics": [[*TOPICS]],
    }
    logs = treasury.chain.rpc.call("eth_getLogs", asked)
    return [treasury_event(log) for log in logs]


def test_a_purchase_takes_from_each_allowance_once(treasury: SafeTreasury) -> None:
    found = told(treasury, lambda: treasury.buy("40", "60"))
    assert found == [
        Consumed(DAILY, 100_000_000, 140_000_000),
        Consumed(TOTAL, 100_000_000, 4_900_000_000),
    ]


def test_an_allowance_that_owners_set_is_told_as_it_is_stored(treasury: SafeTreasury) -> None:
    wanted = replace(treasury.limits.bucket, balance=7, timestamp=treasury.chain.time)
    found = told(treasury, lambda: treasury.owners_set(roles.set_allowance(BONDS, wanted)))
    assert found == [AllowanceSet(BONDS, wanted)]


def of_safe(t: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(t.address, Signature(signature).call(*arguments))


def of_roles(t: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(t.places.roles, Signature(signature).call(*arguments))


CHANGES: Final[dict[str, tuple[Callable[[SafeTreasury], InnerCall], str]]] = {
    "AddedOwner": (
        lambda t: of_safe(t, "addOwnerWithThreshold(address,uint256)", STRANGER, 2),
        f"{STRANGER} is an owner",
    ),
    "RemovedOwner": (
        lambda t: of_safe(
            t, "removeOwner(address,address,uint256)", SENTINEL, t.limits.owners[0], 2
        ),
        "is no owner",
    ),
    "ChangedThreshold": (
        lambda t: of_safe(t, "changeThreshold(uint256)", 1),
        "the threshold is 1",
    ),
    "EnabledModule": (
        lambda t: InnerCall(t.address, ENABLE_MODULE.call(STRANGER)),
        f"{STRANGER} may act as a module",
    ),
    "DisabledModule": (
        lambda t: InnerCall(t.address, DISABLE_MODULE.call(SENTINEL, t.places.roles)),
        "may not act as a module",
    ),
    "ChangedFallbackHandler": (
        lambda t: of_safe(t, "setFallbackHandler(address)", STRANGER),
        f"{STRANGER} answers other calls",
    ),
    "AssignRoles": (
        lambda t: InnerCall(
            t.places.roles, roles.assign_roles(STRANGER, [PURCHASES], member_of=False)
        ),
        f"{STRANGER} has not the role coordinator",
    ),
    "SetDefaultRole": (
        lambda t: of_roles(t, "setDefaultRole(address,bytes32)", STRANGER, PURCHASES),
        f"{STRANGER} acts by the role coordinator",
    ),
    "ScopeTarget": (
        lambda t: InnerCall(t.places.roles, roles.scope_target(PURCHASES, STRANGER)),
        f"coordinator calls scoped parts of {STRANGER}",
    ),
    "AllowTarget": (
        lambda t: of_roles(t, "allowTarget(bytes32,address,uint8)", PURCHASES, STRANGER, 0),
        f"coordinator may call everything of {STRANGER}",
    ),
    "RevokeTarget": (
        lambda t: InnerCall(t.places.roles, roles.revoke_target(PURCHASES, STRANGER)),
        f"coordinator may not call {STRANGER}",
    ),
    "AllowFunction": (
        lambda t: of_roles(
            t,
            "allowFunction(bytes32,address,bytes4,uint8)",
            PURCHASES,
            STRANGER,
            APPROVE.selector,
            0,
        ),
        f"coordinator may call 0x095ea7b3 of {STRANGER} with anything",
    ),
    "RevokeFunction": (
        lambda t: InnerCall(
            t.places.roles, roles.revoke_function(PURCHASES, STRANGER, APPROVE.selector)
        ),
        f"coordinator may not call 0x095ea7b3 of {STRANGER}",
    ),
    "ScopeFunction": (
        lambda t: InnerCall(
            t.places.roles,
            roles.scope_function(
                PURCHASES, STRANGER, APPROVE.selector, call_with(equal_to(STRANGER))
            ),
        ),
        f"coordinator may call 0x095ea7b3 of {STRANGER}, under conditions",
    ),
    "SetUnwrapAdapter": (
        lambda t: InnerCall(t.places.roles, roles.set_unwrapper()),
        f"calls through {MULTI_SEND.address} are judged by ",
    ),
    "OwnershipTransferred": (
        lambda t: of_roles(t, "transferOwnership(address)", STRANGER),
        f"{STRANGER} owns the roles",
    ),
    "AvatarSet": (
        lambda t: of_roles(t, "setAvatar(address)", STRANGER),
        f"the roles act for {STRANGER}",
    ),
    "TargetSet": (
        lambda t: of_roles(t, "setTarget(address)", STRANGER),
        f"the roles call {STRANGER}",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_owners_is_told(treasury: SafeTreasury, name: str) -> None:
    change, sentence = CHANGES[name]

    found = told(treasury, lambda: treasury.owners_do(change(treasury)))

    assert any(
        isinstance(one, Changed) and one.event == name and sentence in one.sentence for one in found
    ), found


def test_an_event_that_is_cut_off_is_the_endpoints_fault() -> None:
    log = {"topics": [TOPICS[0]], "data": "0x00"}
    with pytest.raises(ChainUnavailable):
        treasury_event(log)
    assert treasury_event({"topics": ["0x" + "00" * 32], "data": "0x"}) is None
