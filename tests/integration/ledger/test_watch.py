"""What the executor warns of is told once, whoever acts, and again when it comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator import Coordinator
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call, Step, StepKind, StepStatus
from coordinator.domain.ports import Observation, Ticks
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.executor.watch import Watch
from tests.integration.ledger.deciding import Clock

LOW_WEI = 1
HEAD = Block(100, "0x" + "ab" * 32, 1000)
CALM = Observation(
    account="0x" + "a1" * 20,
    treasury="0x" + "a1" * 20,
    head=HEAD,
    readable=HEAD.number,
    final=HEAD,
    base_fee_wei=10**9,
    nonce=0,
    create_nonce=0,
    usdc_balance=Usdc("1000"),
    usdc_allowance=ZERO,
    gas_balance_wei=10**18,
    fees=Fees(10**9, 10**6, 10**12),
    rail_trouble=None,
)
LOW = replace(CALM, gas_balance_wei=LOW_WEI)


def watch(coordinator: Coordinator, clock: Clock, ticks: Ticks = lambda: 0.0) -> Watch:
    w = coordinator.wiring
    return Watch(purchases=w.purchases, notices=w.notices, clock=clock, ticks=ticks)


def look(watch: Watch, coordinator: Coordinator, clock: Clock, *seen: Observation) -> None:
    for one in seen:
        clock.now += 1
        watch.look(coordinator.wiring.policies.current(), [], one)


def told(coordinator: Coordinator) -> list[str]:
    return [kept.notice.kind for kept in reversed(coordinator.wiring.notices.list())]


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (LOW, "gas_balance_low"),
        (replace(CALM, fees=None), "fees_above_ceiling"),
        (replace(CALM, rail_trouble="the kernel is paused"), "rail_trouble"),
    ],
)
def test_a_condition_is_told_once_then_that_it_is_over_then_again(
    coordinator: Coordinator, clock: Clock, trouble: Observation, kind: str
) -> None:
    own = watch(coordinator, clock)
    look(own, coordinator, clock, CALM, trouble, trouble, CALM, CALM, trouble)
    assert told(coordinator) == [kind, f"{kind}_over", kind]


def test_a_restart_tells_nothing_again_and_sees_what_has_passed_meanwhile(
    coordinator: Coordinator, clock: Clock
) -> None:
    look(watch(coordinator, clock), coordinator, clock, LOW)
    look(watch(coordinator, clock), coordinator, clock, LOW)
    assert told(coordinator) == ["gas_balance_low"]
    look(watch(coordinator, clock), coordinator, clock, CALM)
    assert told(coordinator) == ["gas_balance_low", "gas_balance_low_over"]


def test_who_takes_over_does_not_believe_what_it_told_itself_before(
    coordinator: Coordinator, clock: Clock
) -> None:
    first, second = watch(coordinator, clock), watch(coordinator, clock)
    look(first, coordinator, clock, LOW)
    look(second, coordinator, clock, CALM)
    first.take_over()
    look(first, coordinator, clock, LOW)
    low = "gas_balance_low"
    assert told(coordinator) == [low, f"{low}_over", low]


def test_drift_is_critical_and_tells_by_how_much(coordinator: Coordinator, clock: Clock) -> None:
    own = watch(coordinator, clock)
    assert not own.look_at_drift(Usdc("1"), Usdc("1"))
    assert own.look_at_drift(Usdc("1.000001"), Usdc("1"))
    assert own.look_at_drift(Usdc("2"), Usdc("1"))
    (kept,) = coordinator.wiring.notices.list()
    assert (kept.notice.kind, kept.notice.severity) == ("drift", "critical")
    assert "1.000001" in kept.notice.message


def test_the_first_step_in_flight_is_stuck_after_ten_minutes_of_its_own(
    coordinator: Coordinator, clock: Clock
) -> None:
    ticks = [0.0]
    watching = watch(coordinator, clock, lambda: ticks[0])
    fill = Call(kind=StepKind.FILL, to="0x", data="0x", gas_limit=1)
    first, second = (
        Step(id=number, nonce=number, call=fill, status=StepStatus.SIGNED) for number in (1, 2)
    )

    def after(seconds: float, *steps: Step) -> list[str]:
        ticks[0] += seconds
        watching.look_at_lane(steps)
        return [kind for kind in told(coordinator) if kind.startswith("lane")]

    assert after(0, first, second) == []
    # The second has waited behind the first, and is now first itself.
    assert after(599, second) == []
    assert after(599, second) == []
    assert after(1, second) == ["lane_stuck"]
    assert after(600, second) == ["lane_stuck"]
    assert after(1)[0] == "lane_stuck"
    assert not coordinator.wiring.notices.is_active("lane_stuck")
