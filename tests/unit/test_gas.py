"""Gas is reserved at the ceiling: for what is signed later, the worst that it can cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.chain.gas import (
    GAS_LIMITS,
    PURCHASE_GAS,
    Fees,
    purchases_left,
    reserve_wei,
    suggested_fees,
)
from coordinator.domain.chain.steps import StepKind

wei = st.integers(min_value=0, max_value=10**13)
fees = st.builds(Fees, st.integers(1, 10**13), st.integers(0, 10**12), wei)
counts = st.integers(min_value=0, max_value=1000)

GWEI = 10**9


def test_every_kind_of_step_has_a_gas_limit() -> None:
    assert set(GAS_LIMITS) == {kind.value for kind in StepKind}
    assert all(limit >= 21_000 for limit in GAS_LIMITS.values())


def test_a_purchase_is_counted_with_its_dearest_end() -> None:
    ends = [GAS_LIMITS[end] for end in ("settle", "cancel", "reclaim")]
    assert GAS_LIMITS["create"] + GAS_LIMITS["link"] + max(ends) == PURCHASE_GAS


def test_a_ceiling_counts_the_l1_bound_once_for_each_transaction() -> None:
    assert Fees(10, 1, 7).ceiling_wei(1000, 3) == 10 * 1000 + 7 * 3


def test_what_is_signed_has_its_own_limit_and_a_call_through_a_safe_takes_more() -> None:
    fees = Fees(10, 1, 7, call_gas=200)
    assert fees.signed_wei(1000) == 10 * 1000 + 7
    assert fees.ceiling_wei(1000, 1) == 10 * 1200 + 7


def test_the_suggestion_survives_a_doubled_base_fee() -> None:
    assert suggested_fees(100, 5, 9, None) == Fees(205, 5, 9)


def test_the_suggestion_is_cut_at_the_ceiling() -> None:
    assert suggested_fees(100, 5, 0, 150) == Fees(150, 5, 0)
    assert suggested_fees(100, 5, 0, 105) == Fees(105, 5, 0)


def test_nothing_is_suggested_while_the_fee_alone_exceeds_the_ceiling() -> None:
    assert suggested_fees(100, 5, 0, 104) is None


@given(wei, wei, wei, st.one_of(st.none(), wei))
def test_a_suggestion_never_exceeds_the_ceiling_and_always_pays_the_present_fee(
    base_fee: int, tip: int, l1: int, ceiling: int | None
) -> None:
    suggested = suggested_fees(base_fee, tip, l1, ceiling)
    if suggested is None:
        assert ceiling is not None
        assert base_fee + tip > ceiling
        return
    tip = tip if ceiling is not None else min(tip, 2 * GWEI)
    assert base_fee + tip <= suggested.max_fee_per_gas <= 2 * base_fee + tip
    assert ceiling is None or suggested.max_fee_per_gas <= ceiling
    assert suggested.max_priority_fee_per_gas == tip <= suggested.max_fee_per_gas
    assert suggested.l1_fee_upper_bound_wei == l1


@given(fees, counts, counts)
def test_the_reserve_is_that_of_each_purchase_added_up(
    at: Fees, unstarted: int, unended: int
) -> None:
    one = reserve_wei(at, unstarted=1, unended=0)
    end = reserve_wei(at, unstarted=0, unended=1)
    assert reserve_wei(at, unstarted=unstarted, unended=unended) == unstarted * one + unended * end
    assert reserve_wei(at, unstarted=0, unended=0) == 0
    assert one == at.ceiling_wei(PURCHASE_GAS, 3)
    assert end < one


@given(fees, counts, st.integers(min_value=0, max_value=10**20))
def test_the_purchases_left_are_those_that_the_unreserved_balance_pays(
    at: Fees, reserved: int, free: int
) -> None:
    reserved_wei = reserve_wei(at, unstarted=reserved, unended=0)
    left = purchases_left(reserved_wei + free, reserved_wei, at)
    one = reserve_wei(at, unstarted=1, unended=0)
    assert left * one <= free < (left + 1) * one


def test_a_balance_below_the_reserve_leaves_no_purchase() -> None:
    at = Fees(10, 1)
    assert purchases_left(5, 10**9, at) == 0
    assert purchases_left(reserve_wei(at, unstarted=1, unended=0) - 1, 0, at) == 0
    assert purchases_left(reserve_wei(at, unstarted=1, unended=0), 0, at) == 1


def test_without_a_ceiling_a_tip_is_at_most_two_gwei() -> None:
    """One endpoint that lies about the base fee and the tip can't have us pay its friends."""
    absurd = 10**15
    fees = suggested_fees(absurd, absurd, 0, None)
    assert fees is not None
    assert fees.max_priority_fee_per_gas == 2 * GWEI
    assert suggested_fees(absurd, absurd, 0, 40 * GWEI) is None
    calm = suggested_fees(GWEI, 2 * GWEI, 0, None)
    assert calm is not None
    assert (calm.max_fee_per_gas, calm.max_priority_fee_per_gas) == (4 * GWEI, 2 * GWEI)
