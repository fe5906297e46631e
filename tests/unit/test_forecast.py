"""The treasury's money as it will be once everything in flight has been mined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.domain.chain.events import Block
from coordinator.domain.chain.gas import GAS_LIMITS, Fees, reserve_wei
from coordinator.domain.chain.steps import Call, Step, StepKind, StepStatus
from coordinator.domain.ports import Observation
from coordinator.domain.purchase.forecast import Forecast, reserved_wei
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.planning import OpenPurchase
from coordinator.domain.usdc import ZERO, Usdc

K = StepKind
NONCE = 7
FEES = Fees(max_fee_per_gas=3, max_priority_fee_per_gas=1, l1_fee_upper_bound_wei=11)
SEEN = Observation(
    account="0x" + "a1" * 20,
    treasury="0x" + "a1" * 20,
    head=Block(100, "0x64", 1_800_000_000),
    readable=99,
    final=None,
    base_fee_wei=1,
    nonce=NONCE,
    create_nonce=40,
    usdc_balance=Usdc("100"),
    usdc_allowance=Usdc("60"),
    gas_balance_wei=10**18,
    fees=FEES,
    rail_trouble=None,
)


def call(kind: StepKind, usdc: str | None = None) -> Call:
    return Call(
        kind=kind, to="0x", data="0x", gas_limit=1, usdc=Usdc(usdc) if usdc is not None else None
    )


def in_flight(kind: StepKind, usdc: str | None = None, **values: Any) -> Step:
    step = Step(id=1, nonce=NONCE, call=call(kind, usdc), status=StepStatus.SIGNED)
    return replace(step, **values)


def left(*steps: Step) -> tuple[str, str, int]:
    """(balance, allowance, creates) once the steps are mined."""
    forecast = Forecast.of(SEEN, steps, reserved_wei=0)
    return str(forecast.usdc), str(forecast.allowance), forecast.create_nonce


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (in_flight(K.LINK, "25"), ("75.00", "35.00", 40)),
        (in_flight(K.DISPUTE, "5"), ("95.00", "55.00", 40)),
        (in_flight(K.WITHDRAW, "30"), ("70.00", "60.00", 40)),
        (in_flight(K.APPROVE, "500"), ("100.00", "500.00", 40)),
        (in_flight(K.APPROVE), ("100.00", "0.00", 40)),
        (in_flight(K.CREATE), ("100.00", "60.00", 41)),
        (in_flight(K.SETTLE), ("100.00", "60.00", 40)),
        (in_flight(K.FILL), ("100.00", "60.00", 40)),
    ],
    ids=["link", "dispute", "withdraw", "approve", "revoke", "create", "settle", "fill"],
)
def test_a_step_in_flight_counts_as_mined(step: Step, expected: tuple[str, str, int]) -> None:
    assert left(step) == expected


def test_a_step_that_the_chain_has_mined_is_in_the_balances_already() -> None:
    assert left(in_flight(K.WITHDRAW, "30", nonce=NONCE - 1)) == ("100.00", "60.00", 40)


def test_a_step_that_was_given_up_will_take_nothing() -> None:
    assert left(in_flight(K.WITHDRAW, "30", given_up=True)) == ("100.00", "60.00", 40)


def approved(*calls: Call, allowance: str, standing: str) -> list[tuple[StepKind, Usdc | None]]:
    forecast = Forecast.of(replace(SEEN, usdc_allowance=Usdc(allowance)), [], reserved_wei=0)
    for each in calls:
        forecast.add(each)
    made = forecast.with_allowance(Usdc(standing), lambda amount: call(K.APPROVE, str(amount)))
    return [(each.kind, each.usdc) for each in made]


LINKS = (call(K.LINK, "25"), call(K.LINK, "10"))
PULLED = [(K.LINK, Usdc("25")), (K.LINK, Usdc("10"))]


@pytest.mark.parametrize(
    ("allowance", "standing", "ahead"),
    [
        ("35", "500", []),
        ("34.999999", "500", [(K.APPROVE, Usdc("500"))]),
        ("34.999999", "30", [(K.APPROVE, Usdc("35"))]),
        ("0", "35", [(K.APPROVE, Usdc("35"))]),
    ],
)
def test_an_approval_stands_ahead_where_the_allowance_would_not_last(
    allowance: str, standing: str, ahead: list[tuple[StepKind, Usdc]]
) -> None:
    assert approved(*LINKS, allowance=allowance, standing=standing) == [*ahead, *PULLED]


def test_what_pulls_nothing_needs_no_allowance() -> None:
    assert approved(call(K.WITHDRAW, "30"), allowance="0", standing="500") == [
        (K.WITHDRAW, Usdc("30"))
    ]


def purchase(*steps: Step) -> OpenPurchase:
    return OpenPurchase(
        id="pur_1",
        agent="ada",
        status=Status.APPROVED,
        provider="0x",
        provider_name=None,
        amount=Usdc("25"),
        service=None,
        settle="manual",
        escrow_key="0x",
        approved_at=0,
        cancel_wanted=False,
        settle_wanted=False,
        key_known=False,
        stranded=None,
        steps=steps,
        escrows=(),
    )


def test_gas_is_reserved_for_what_is_signed_and_for_the_end_of_what_has_begun() -> None:
    link = in_flight(K.LINK, "25")
    found = reserved_wei([purchase(link), purchase()], [link], FEES)
    signed = FEES.ceiling_wei(GAS_LIMITS["link"], 1)
    assert found == signed + reserve_wei(FEES, unstarted=0, unended=1)
    assert reserved_wei([purchase()], [], FEES) == 0
    assert Forecast.of(SEEN, [], found).gas_free_wei == 10**18 - found


def test_nothing_in_flight_leaves_the_balances_as_they_were_read() -> None:
    assert left() == ("100.00", "60.00", 40)
    assert Forecast.of(replace(SEEN, usdc_balance=ZERO), [], 0).usdc == ZERO
