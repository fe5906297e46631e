"""Whoever has the worker's key: each refusal by its name, and gone once its condition is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.conditions import Condition, anything, call_with, equal_to
from coordinator.chain.safe.configuration import (
    APPROVE,
    BONDS,
    CREATE,
    DAILY,
    DISPUTE_COUNT,
    DISPUTES,
    LINK,
    PURCHASES,
    TOTAL,
    TRANSFER,
    TRANSITION,
    X402,
    scopes,
)
from coordinator.chain.safe.multisend import (
    CALL,
    DELEGATE_CALL,
    MULTI_SEND_FUNCTION,
    InnerCall,
    multi_send,
)
from coordinator.chain.safe.safe_transactions import OwnerSignature, joined, together
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, checksummed
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury

STRANGER: Final = checksummed("0x" + "57" * 20)
ALLOW_FUNCTION: Final = Signature("allowFunction(bytes32,address,bytes4,uint8)")
ALLOW_TARGET: Final = Signature("allowTarget(bytes32,address,uint8)")
SET_UNWRAPPER: Final = Signature("setTransactionUnwrapper(address,bytes4,address)")
WITH_ETH, WITH_DELEGATE_CALL = 1, 2


@dataclass(frozen=True)
class Attempt:
    """A call through the role, what the role says, and the owners' call that makes it go.

    ``afterwards`` is what still refuses it then, which is not the role's condition.
    """

    to: str
    data: bytes
    says: str
    lift: Sequence[InnerCall]
    info: bytes = b""
    operation: int = CALL
    role: bytes = PURCHASES
    value: int = 0
    afterwards: str | None = None


Made = Callable[[SafeTreasury], Attempt]


def together_(calls: Sequence[InnerCall], says: str, *lift: InnerCall, **more: Any) -> Attempt:
    data = multi_send(calls)
    more = {"operation": DELEGATE_CALL} | more
    return Attempt(MULTI_SEND.address, data, says, lift, **more)


def owners_set(treasury: SafeTreasury, data: bytes) -> InnerCall:
    return InnerCall(treasury.places.roles, data)


def scoped(treasury: SafeTreasury, function: Signature, **changes: Any) -> InnerCall:
    """The owners' call that scopes a function of the purchases by other limits."""
    limits = replace(treasury.limits, **changes)
    (scope,) = [
        scope
        for scope in scopes(treasury.places, limits)
        if scope.function == function and scope.role == PURCHASES
    ]
    return conditioned(treasury, scope.target, function, scope.condition)


def conditioned(
    treasury: SafeTreasury, target: str, function: Signature, condition: Condition
) -> InnerCall:
    data = roles.scope_function(PURCHASES, target, function.selector, condition)
    return owners_set(treasury, data)


def allowed(
    treasury: SafeTreasury, target: str, function: Signature, options: int = 0
) -> list[InnerCall]:
    """The owners' calls that let the role call a function with anything."""
    calls = [
        roles.scope_target(PURCHASES, target),
        ALLOW_FUNCTION.call(PURCHASES, target, function.selector, options),
    ]
    return [owners_set(treasury, call) for call in calls]


def target_allowed(treasury: SafeTreasury, target: str, options: int = 0) -> InnerCall:
    return owners_set(treasury, ALLOW_TARGET.call(PURCHASES, target, options))


def allowance_of(treasury: SafeTreasury, key: bytes, allowance: Allowance) -> InnerCall:
    return owners_set(treasury, roles.set_allowance(key, allowance))


def purchase(treasury: SafeTreasury, usdc: str, **terms: Any) -> list[InnerCall]:
    return [treasury.approve(usdc), *treasury.create_and_link(usdc, **terms)[1]]


def unlisted_provider(t: SafeTreasury) -> Attempt:
    lift = scoped(t, CREATE, providers=(*t.limits.providers, STRANGER))
    return together_(purchase(t, "5", provider=STRANGER), "OrViolation", lift)


def above_the_maximum(t: SafeTreasury) -> Attempt:
    lift = scoped(t, CREATE, purchase_max=Usdc("100.000001"))
    return together_(purchase(t, "100.000001"), "ParameterGreaterThanAllowed", lift)


def late_deadline(t: SafeTreasury) -> Attempt:
    bound = t.limits.deadline_before
    calls = purchase(t, "5", deadline=bound)
    lift = scoped(t, CREATE, deadline_before=bound + 1)
    return together_(calls, "ParameterGreaterThanAllowed", lift, afterwards=too_far(t, bound))


def too_far(t: SafeTreasury, deadline: int) -> str | None:
    """The kernel's own bound on deadlines is an instant away from ours."""
    return None if deadline <= t.chain.time + t.chain.kernel("MAX_DEADLINE") else FAILED


FAILED: Final = "ModuleTransactionFailed"


def other_requester(t: SafeTreasury) -> Attempt:
    data = CREATE.call(
        t.chain.provider, STRANGER, 5_000_000, t.chain.time + 86_400, 3600, bytes(32), 0, 0
    )
    lift = conditioned(t, t.places.kernel, CREATE, call_with(equal_to(t.chain.provider)))
    # The kernel wants the requester to send it.
    return Attempt(t.places.kernel, data, "ParameterNotAllowed", [lift], afterwards=FAILED)


def approval_of_a_stranger(t: SafeTreasury) -> Attempt:
    call = t.approve("5", STRANGER)
    lift = conditioned(t, call.to, APPROVE, call_with(equal_to(STRANGER)))
    return Attempt(call.to, call.data, "ParameterNotAllowed", [lift])


def other_vault(t: SafeTreasury) -> Attempt:
    data = LINK.call(bytes(32), STRANGER, bytes(32))
    lift = conditioned(t, t.places.kernel, LINK, call_with(anything(), equal_to(STRANGER)))
    # The kernel knows no such escrow.
    return Attempt(t.places.kernel, data, "ParameterNotAllowed", [lift], afterwards=FAILED)


def a_unit_above_the_bucket(t: SafeTreasury) -> Attempt:
    call = t.approve("240.000001")
    lift = allowance_of(t, DAILY, replace(t.limits.bucket, balance=240_000_001))
    return Attempt(call.to, call.data, "AllowanceExceeded", [lift], DAILY)


def two_that_are_above_the_bucket_together(t: SafeTreasury) -> Attempt:
    calls = [t.approve("121"), t.approve("120")]
    lift = allowance_of(t, DAILY, replace(t.limits.bucket, balance=241_000_000))
    return together_(calls, "AllowanceExceeded", lift, info=DAILY)


def above_the_total(t: SafeTreasury) -> Attempt:
    t.owners_do(allowance_of(t, TOTAL, Allowance.once(4_999_999)))
    call = t.approve("5")
    lift = allowance_of(t, TOTAL, Allowance.once(5_000_000))
    return Attempt(call.to, call.data, "AllowanceExceeded", [lift], TOTAL)


def transfer_to_a_stranger(t: SafeTreasury) -> Attempt:
    data = TRANSFER.call(STRANGER, 1)
    lift = conditioned(t, t.places.usdc, TRANSFER, call_with(equal_to(STRANGER)))
    return Attempt(t.places.usdc, data, "ParameterNotAllowed", [lift])


def transfer_above_the_bucket(t: SafeTreasury) -> Attempt:
    assert t.limits.x402 is not None
    data = TRANSFER.call(t.limits.x402.wallet, 24_000_001)
    lift = allowance_of(t, X402, replace(t.limits.x402.transfers, balance=24_000_001))
    return Attempt(t.places.usdc, data, "AllowanceExceeded", [lift], X402)


def _function_not_allowed(text: str, *arguments: Any, of_kernel: bool, works: bool) -> Made:
    function = Signature(text)

    def made(t: SafeTreasury) -> Attempt:
        to = t.places.kernel if of_kernel else t.places.usdc
        return Attempt(
            to,
            function.call(*arguments),
            "FunctionNotAllowed",
            allowed(t, to, function),
            function.selector,
            afterwards=None if works else FAILED,
        )

    return made


def _target_not_allowed(to: Callable[[SafeTreasury], str], data: bytes) -> Made:
    def made(t: SafeTreasury) -> Attempt:
        lift = [target_allowed(t, to(t))]
        return Attempt(to(t), data, "TargetAddressNotAllowed", lift)

    return made


def nested_multi_send(t: SafeTreasury) -> Attempt:
    inner = InnerCall(MULTI_SEND.address, multi_send([t.approve("5")]))
    # It works then, but as a call of MultiSend in its own name, which owns nothing.
    lift = target_allowed(t, MULTI_SEND.address)
    return together_([inner], "TargetAddressNotAllowed", lift)


def multi_send_without_unwrapper(t: SafeTreasury) -> Attempt:
    selector = MULTI_SEND_FUNCTION.selector
    t.owners_set(SET_UNWRAPPER.call(MULTI_SEND.address, selector, ZERO_ADDRESS))
    lift = owners_set(t, roles.set_unwrapper())
    return together_(purchase(t, "5"), "TargetAddressNotAllowed", lift)


def the_zero_address(t: SafeTreasury) -> Attempt:
    # MultiSendCallOnly 1.5.0 takes it for whoever runs it, the Safe: it must never be allowed.
    change = Signature("changeThreshold(uint256)").call(1)
    lift = target_allowed(t, ZERO_ADDRESS)
    return together_([InnerCall(ZERO_ADDRESS, change)], "TargetAddressNotAllowed", lift)


def plain_eth(t: SafeTreasury) -> Attempt:
    t.chain.fund(t.address, usdc="0", wei=1)
    lift = target_allowed(t, STRANGER, WITH_ETH)
    return Attempt(STRANGER, b"", "TargetAddressNotAllowed", [lift], value=1)


def eth_with_a_call(t: SafeTreasury) -> Attempt:
    call = t.approve("5")
    lift = allowed(t, call.to, APPROVE, WITH_ETH)
    # The token takes none.
    return Attempt(call.to, call.data, "SendNotAllowed", lift, value=1, afterwards=FAILED)


def delegate_call(t: SafeTreasury) -> Attempt:
    data = kernel_abi().call("requesterNonces", t.address)
    function = Signature("requesterNonces(address)")
    t.owners_do(*allowed(t, t.places.kernel, function))
    return Attempt(
        t.places.kernel,
        bytes.fromhex(data[2:]),
        "DelegateCallNotAllowed",
        allowed(t, t.places.kernel, function, WITH_DELEGATE_CALL),
        operation=DELEGATE_CALL,
    )


def delegate_call_within(t: SafeTreasury) -> Attempt:
    packed = bytearray(multi_send([t.approve("5")]))
    packed[68] = DELEGATE_CALL
    lift = allowed(t, t.places.usdc, APPROVE, WITH_DELEGATE_CALL)
    says = "DelegateCallNotAllowed"
    # MultiSendCallOnly runs no delegate calls.
    return Attempt(
        MULTI_SEND.address, bytes(packed), says, lift, operation=DELEGATE_CALL, afterwards=FAILED
    )


def _of_role(role: bytes, afterwards: str | None = None) -> Made:
    def made(t: SafeTreasury) -> Attempt:
        call = t.approve("5")
        scope = roles.scope_target(role, call.to)
        allow = ALLOW_FUNCTION.call(role, call.to, APPROVE.selector, 0)
        assign = roles.assign_roles(t.member, [role])
        lift = [owners_set(t, data) for data in (scope, allow, assign)]
        return Attempt(call.to, call.data, "NoMembership", lift, role=role, afterwards=afterwards)

    return made


def a_call_of_no_function(t: SafeTreasury) -> Attempt:
    # No permission helps it.
    lift = [target_allowed(t, t.places.usdc)]
    says = "FunctionSignatureTooShort"
    return Attempt(t.places.usdc, b"\1\2\3", says, lift, afterwards=says)


def _transition(state: int) -> Made:
    def made(t: SafeTreasury) -> Attempt:
        data = TRANSITION.call(bytes(32), state, b"")
        lift = conditioned(t, t.places.kernel, TRANSITION, call_with(anything(), equal_to(state)))
        # The kernel knows no such escrow.
        return Attempt(t.places.kernel, data, "OrViolation", [lift], afterwards=FAILED)

    return made


def bond_above_the_bucket(t: SafeTreasury) -> Attempt:
    assert t.limits.disputes is not None
    call = t.approve("24.000001")
    lift = allowance_of(t, BONDS, replace(t.limits.disputes.bonds, balance=24_000_001))
    return Attempt(call.to, call.data, "AllowanceExceeded", [lift], BONDS, role=DISPUTES)


def a_dispute_too_many(t: SafeTreasury) -> Attempt:
    assert t.limits.disputes is not None
    full = t.limits.disputes.count
    t.owners_do(allowance_of(t, DISPUTE_COUNT, replace(full, balance=0, timestamp=t.chain.time)))
    data = TRANSITION.call(bytes(32), 6, b"")
    lift = allowance_of(t, DISPUTE_COUNT, full)
    says = "CallAllowanceExceeded"
    return Attempt(
        t.places.kernel, data, says, [lift], DISPUTE_COUNT, role=DISPUTES, afterwards=FAILED
    )


def a_settlement_by_the_dispute_role(t: SafeTreasury) -> Attempt:
    data = TRANSITION.call(bytes(32), 5, b"")
    return Attempt(
        t.places.kernel,
        data,
        "ParameterNotAllowed",
        [
            owners_set(
                t,
                roles.scope_function(
                    DISPUTES, t.places.kernel, TRANSITION.selector, call_with(anything())
                ),
            )
        ],
        role=DISPUTES,
        afterwards=FAILED,
    )


ATTEMPTS: Final[dict[str, Made]] = {
    "a provider that is not listed": unlisted_provider,
    "a unit above the maximum": above_the_maximum,
    "a deadline at the bound": late_deadline,
    "another requester": other_requester,
    "an approval of a stranger": approval_of_a_stranger,
    "another vault": other_vault,
    "a unit above the bucket": a_unit_above_the_bucket,
    "two that are above the bucket together": two_that_are_above_the_bucket_together,
    "above the total": above_the_total,
    "a transfer to a stranger": transfer_to_a_stranger,
    "a transfer above the bucket": transfer_above_the_bucket,
    "transferFrom": _function_not_allowed(
        "transferFrom(address,address,uint256)", STRANGER, STRANGER, 0, of_kernel=False, works=True
    ),
    "increaseAllowance": _function_not_allowed(
        "increaseAllowance(address,uint256)", STRANGER, 5, of_kernel=False, works=True
    ),
    "acceptQuote": _function_not_allowed(
        "acceptQuote(bytes32,uint256)", bytes(32), 5, of_kernel=True, works=False
    ),
    "releaseMilestone": _function_not_allowed(
        "releaseMilestone(bytes32,uint256)", bytes(32), 5, of_kernel=True, works=False
    ),
    "the Safe itself": _target_not_allowed(
        lambda t: t.address, Signature("changeThreshold(uint256)").call(1)
    ),
    "the roles themselves": _target_not_allowed(
        lambda t: t.places.roles, roles.set_allowance(DAILY, Allowance.once(10**12))
    ),
    "the vault": _target_not_allowed(
        lambda t: t.places.vault, Signature("remaining(bytes32)").call(bytes(32))
    ),
    "a nested MultiSend": nested_multi_send,
    "MultiSend without its unwrapper": multi_send_without_unwrapper,
    "the zero address": the_zero_address,
    "plain ETH": plain_eth,
    "ETH with a call": eth_with_a_call,
    "a delegate call": delegate_call,
    "a delegate call within": delegate_call_within,
    "another role": _of_role(roles.key("another")),
    # Nobody can be a member of it.
    "no role": _of_role(bytes(32), "NoMembership"),
    "a call of no function": a_call_of_no_function,
    "a transition to started": _transition(3),
    "a transition to delivered": _transition(4),
    "a dispute by the purchases' role": _transition(6),
    "a bond above the bucket": bond_above_the_bucket,
    "a dispute too many": a_dispute_too_many,
    "a settlement by the disputes' role": a_settlement_by_the_dispute_role,
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_leaked_key_is_refused_until_that_one_condition_is_lifted(
    treasury: SafeTreasury, name: str
) -> None:
    attempt = ATTEMPTS[name](treasury)
    assert said(treasury, attempt) == (attempt.says, attempt.info)

    treasury.owners_do(*attempt.lift)

    assert said(treasury, attempt)[0] == attempt.afterwards


def said(treasury: SafeTreasury, attempt: Attempt) -> tuple[str | None, bytes]:
    refusal = treasury.refusal(
        attempt.to,
        attempt.data,
        operation=attempt.operation,
        role=attempt.role,
        value=attempt.value,
    )
    return (None, b"") if refusal is None else (refusal.name, refusal.info)


@pytest.mark.parametrize(
    "data",
    [
        multi_send([]),
        multi_send([])[:-1],
        bytes.fromhex("8d80ff0a"),
        bytes.fromhex("8d80ff0a") + b"\xff" * 96,
    ],
    ids=["no calls", "a byte short", "nothing behind the selector", "no lengths"],
)
def test_calls_that_are_not_packed_as_multi_send_takes_them_are_refused(
    treasury: SafeTreasury, data: bytes
) -> None:
    refusal = treasury.refusal(MULTI_SEND.address, data, operation=DELEGATE_CALL)
    assert refusal is not None and refusal.name == "MalformedMultiEntrypoint"


def test_multi_send_is_refused_as_a_plain_call(treasury: SafeTreasury) -> None:
    data = multi_send(purchase(treasury, "5"))
    refusal = treasury.refusal(MULTI_SEND.address, data, operation=CALL)
    assert refusal is not None and refusal.name == "MalformedMultiEntrypoint"
    assert treasury.refusal(MULTI_SEND.address, data, operation=DELEGATE_CALL) is None


def test_who_has_no_role_calls_nothing_until_given_one(treasury: SafeTreasury) -> None:
    call = treasury.approve("5")
    refusal = treasury.refusal(call.to, call.data, sender=STRANGER)
    assert refusal is not None and refusal.name == "NotAuthorized"

    treasury.owners_set(roles.assign_roles(STRANGER, [PURCHASES]))

    assert treasury.refusal(call.to, call.data, sender=STRANGER) is None


@pytest.mark.parametrize(
    "data",
    [
        roles.set_allowance(DAILY, Allowance.once(10**12)),
        roles.assign_roles(STRANGER, [PURCHASES]),
        roles.scope_target(PURCHASES, STRANGER),
        roles.set_unwrapper(),
        Signature("transferOwnership(address)").call(STRANGER),
        Signature("setAvatar(address)").call(STRANGER),
    ],
)
def test_the_key_changes_no_role_until_it_owns_the_roles(
    treasury: SafeTreasury, data: bytes
) -> None:
    refusal = treasury.told(treasury.places.roles, data)
    assert refusal is not None and refusal.name == "OwnableUnauthorizedAccount"

    treasury.owners_set(Signature("transferOwnership(address)").call(treasury.member))

    assert treasury.told(treasury.places.roles, data) is None


def test_the_safe_takes_nothing_from_the_key_itself(treasury: SafeTreasury) -> None:
    transaction = together([treasury.approve("5")], nonce=treasury.nonce)
    by_key = OwnerSignature.approved(treasury.member)
    one_owner = OwnerSignature.approved(treasury.limits.owners[0])
    from_module = Signature("execTransactionFromModule(address,uint256,bytes,uint8)")
    for data, said_by_safe in (
        (transaction.call(joined([by_key, one_owner])), "GS02"),
        (transaction.call(joined([by_key])), "GS020"),
        (from_module.call(treasury.places.usdc, 0, treasury.approve("5").data, CALL), "GS104"),
    ):
        asked = {"from": treasury.member, "to": treasury.address, "data": "0x" + data.hex()}
        (answer,) = treasury.chain.rpc.batch([("eth_call", [asked, "latest"])])
        assert isinstance(answer, RpcRefusal) and said_by_safe in answer.message


def test_a_purchase_again_and_a_transaction_again_are_refused(treasury: SafeTreasury) -> None:
    calls = purchase(treasury, "5")
    receipt = treasury.do_together(calls)

    refusal = treasury.refusal_together(calls)
    raw = treasury.chain.rpc.call("eth_getRawTransactionByHash", receipt["transactionHash"])
    (answer,) = treasury.chain.rpc.send([("eth_sendRawTransaction", [raw])])

    assert refusal is not None and refusal.name == FAILED
    assert isinstance(answer, RpcRefusal)


# Code that writes an empty log.
TELLING: Final = "0x60006000a000"


def test_bytes_behind_the_calls_are_refused_or_not_run(treasury: SafeTreasury) -> None:
    """MultiSend runs no call that begins in the last 32 bytes, and so none may be judged there."""
    treasury.chain.rpc.call("anvil_setCode", STRANGER, TELLING)
    hidden = bytes([CALL]) + bytes.fromhex(STRANGER[2:]) + bytes(64)
    told = {}
    for length in range(1, len(hidden) + 1):
        data = followed_by(treasury.approve("0"), hidden[:length])
        refusal = treasury.refusal(MULTI_SEND.address, data, operation=DELEGATE_CALL)
        told[length] = refusal.name if refusal else "not run"
        if refusal is None:
            receipt = treasury.do(MULTI_SEND.address, data, operation=DELEGATE_CALL)
            assert STRANGER.lower() not in [log["address"] for log in receipt["logs"]]
    short = {length: "not run" for length in range(1, 33)}
    cut_off = {length: "MalformedMultiEntrypoint" for length in range(33, 65)}
    whole = {length: "TargetAddressNotAllowed" for length in range(65, 86)}
    assert told == short | cut_off | whole


def followed_by(call: InnerCall, tail: bytes) -> bytes:
    # The call ends where a word does, so that no padding follows it: a token ignores the rest.
    packed = multi_send([replace(call, data=call.data.ljust(32 * 5 - 85, b"\0"))])
    length = int.from_bytes(packed[36:68], "big")
    assert length % 32 == 0
    return MULTI_SEND_FUNCTION.call(packed[68 : 68 + length] + tail)
