"""An escrow's life through the role of a Safe: many are bought in one transaction, or none is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.configuration import DISPUTES, PURCHASES
from coordinator.chain.safe.multisend import DELEGATE_CALL, InnerCall, multi_send
from coordinator.chain.safe.refusals import Violation
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import Call
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury

# EIP-7825 allows a transaction no more.
GAS_MAX: Final = 16_777_216


@pytest.mark.parametrize("count", [1, 10, 25])
def test_purchases_in_one_transaction_are_funded_under_predicted_ids(
    treasury: SafeTreasury, count: int
) -> None:
    before = treasury.chain.balance(treasury.address)

    escrow_ids = treasury.buy(*["4.50"] * count)

    assert {treasury.chain.state(escrow_id) for escrow_id in escrow_ids} == {EscrowState.FUNDED}
    spent = Usdc.from_base_units(4_500_000 * count)
    assert treasury.chain.balance(treasury.address) == before - spent
    assert treasury.chain.allowance(treasury.address) == Usdc("0")
    assert treasury.chain.kernel("requesterNonces", treasury.address) == count
    block = treasury.chain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert int(block["gasUsed"], 16) < GAS_MAX


def test_one_that_fails_leaves_nothing_of_the_others(treasury: SafeTreasury) -> None:
    _, first = treasury.create_and_link("5")
    # Predicted for a place that is not its own.
    _, second = treasury.create_and_link("5", 2)

    told = treasury.refusal_together([treasury.approve("10"), *first, *second])

    assert told is not None and told.name == "ModuleTransactionFailed"
    assert treasury.refusal_together([treasury.approve("5"), *first]) is None


def test_the_reason_of_a_call_that_fails_is_told_to_who_only_reads(
    treasury: SafeTreasury,
) -> None:
    _, calls = treasury.create_and_link("5", 1)
    data = roles.execute(
        MULTI_SEND.address,
        multi_send([treasury.approve("5"), *calls]),
        operation=DELEGATE_CALL,
        role=PURCHASES,
        tell=True,
    )
    asked = {"from": treasury.member, "to": treasury.places.roles, "data": "0x" + data.hex()}

    answer = bytes.fromhex(treasury.chain.rpc.call("eth_call", asked, "latest")[2:])

    worked, reason = roles.outcome(answer)
    assert not worked
    assert b"Tx missing" in reason


def do(treasury: SafeTreasury, call: Call, *, role: bytes = PURCHASES) -> None:
    treasury.do(call.to, bytes.fromhex(call.data[2:]), role=role)


def test_a_delivered_escrow_is_settled(treasury: SafeTreasury) -> None:
    chain = treasury.chain
    (escrow_id,) = treasury.buy("40")
    chain.deliver(escrow_id)

    do(treasury, treasury.rail.settle(purchase_id="", escrow_id=escrow_id))

    assert chain.state(escrow_id) is EscrowState.SETTLED
    assert chain.balance(chain.provider) > Usdc("0")


def test_an_empty_escrow_is_cancelled(treasury: SafeTreasury) -> None:
    escrow_id, (create, _) = treasury.create_and_link("40")
    treasury.do(create.to, create.data)

    do(treasury, treasury.rail.cancel(purchase_id="", escrow_id=escrow_id))

    assert treasury.chain.state(escrow_id) is EscrowState.CANCELLED


def test_a_funded_escrow_is_reclaimed_after_its_deadline(treasury: SafeTreasury) -> None:
    chain = treasury.chain
    (escrow_id,) = treasury.buy("20")
    reclaim = treasury.rail.reclaim(purchase_id="", escrow_id=escrow_id)
    early = treasury.refusal(reclaim.to, bytes.fromhex(reclaim.data[2:]))
    assert early is not None and early.name == "ModuleTransactionFailed"
    before = chain.balance(treasury.address)

    chain.pass_time(2 * 86_400)
    do(treasury, reclaim)

    assert chain.balance(treasury.address) == before + Usdc("19")


def test_a_providers_refund_lands_in_the_safe(treasury: SafeTreasury) -> None:
    before = treasury.chain.balance(treasury.address)
    (escrow_id,) = treasury.buy("40")

    treasury.chain.move(treasury.chain.provider, escrow_id, EscrowState.CANCELLED)

    assert treasury.chain.balance(treasury.address) == before


def test_a_delivery_is_disputed_by_a_role_of_its_own_a_few_times_a_day(
    treasury: SafeTreasury,
) -> None:
    chain = treasury.chain
    assert treasury.limits.disputes is not None
    escrow_ids = treasury.buy(*["20"] * 4)
    for escrow_id in escrow_ids:
        chain.deliver(escrow_id)
    calls = [dispute(treasury, escrow_id) for escrow_id in escrow_ids]

    for bonded in calls[:-1]:
        treasury.do_together(bonded, role=DISPUTES)
    refusal = treasury.refusal_together(calls[-1], role=DISPUTES)

    states = [chain.state(escrow_id) for escrow_id in escrow_ids]
    assert states == [EscrowState.DISPUTED] * 3 + [EscrowState.DELIVERED]
    assert refusal is not None and refusal.violation is Violation.CALL_ALLOWANCE_EXCEEDED
    chain.pass_time(86_400)
    assert treasury.refusal_together(calls[-1], role=DISPUTES) is None


def dispute(treasury: SafeTreasury, escrow_id: str) -> list[InnerCall]:
    bond = Usdc("1")
    call = treasury.rail.dispute(purchase_id="", escrow_id=escrow_id, bond=bond)
    return [treasury.approve(str(bond)), InnerCall(call.to, bytes.fromhex(call.data[2:]))]


REVOKING: Final[dict[str, tuple[Callable[[SafeTreasury], bytes], str]]] = {
    "the member": (
        lambda t: roles.assign_roles(t.member, [PURCHASES, DISPUTES], member_of=False),
        "NoMembership",
    ),
    "a contract": (
        lambda t: roles.revoke_target(PURCHASES, t.places.kernel),
        "TargetAddressNotAllowed",
    ),
    "a function": (
        lambda t: roles.revoke_function(PURCHASES, t.places.kernel, selector("createTransaction")),
        "FunctionNotAllowed",
    ),
}


def selector(function: str) -> bytes:
    return bytes.fromhex(kernel_abi()._signature(function)[0][2:])


@pytest.mark.parametrize("what", REVOKING)
def test_what_owners_take_away_stops_the_key_at_once(treasury: SafeTreasury, what: str) -> None:
    revoke, says = REVOKING[what]
    _, calls = treasury.create_and_link("5")
    assert treasury.refusal_together([treasury.approve("5"), *calls]) is None

    treasury.owners_set(revoke(treasury))

    refusal = treasury.refusal_together([treasury.approve("5"), *calls])
    assert refusal is not None and refusal.name == says


def test_a_hoarded_approval_outlives_the_member_until_owners_set_it_to_zero(
    treasury: SafeTreasury,
) -> None:
    hoarded = treasury.approve("200")
    treasury.do(hoarded.to, hoarded.data)
    gone = roles.assign_roles(treasury.member, [PURCHASES, DISPUTES], member_of=False)

    treasury.owners_set(gone)
    assert treasury.chain.allowance(treasury.address) == Usdc("200")

    treasury.owners_do(treasury.approve("0"))
    assert treasury.chain.allowance(treasury.address) == Usdc("0")
