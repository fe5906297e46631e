"""A role lets exactly that through which the limits say, judged here a second time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.chain.safe.addresses import MULTI_SEND
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
)
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import X402_WALLET, SafeTreasury

OTHERS: Final = (
    Signature("transferFrom(address,address,uint256)"),
    Signature("increaseAllowance(address,uint256)"),
    Signature("acceptQuote(bytes32,uint256)"),
)
BITS_256: Final = 2**256 - 1


@dataclass(frozen=True)
class Asked:
    """A call before it is encoded, so that both judges see the same."""

    to: str
    function: Signature
    arguments: tuple[Any, ...]

    @property
    def call(self) -> InnerCall:
        return InnerCall(self.to, self.function.call(*self.arguments))


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The usual in seven of eight draws, so that calls of several are let through as well."""
    return st.integers(0, 7).flatmap(lambda draw: usual if draw else other)


def near(*bounds: int) -> st.SearchStrategy[int]:
    """Numbers at bounds, beside them, and far away."""
    edges = [bound + step for bound in bounds for step in (-1, 0, 1) if bound + step >= 0]
    return mostly(st.sampled_from([*edges, 0, BITS_256]), st.integers(1, 10**6))


def calls(treasury: SafeTreasury) -> st.SearchStrategy[Asked]:
    limits, places = treasury.limits, treasury.places
    people = [*limits.providers, X402_WALLET, treasury.member, places.safe, treasury.chain.stranger]
    contracts = [places.usdc, places.kernel, places.vault, places.roles, MULTI_SEND.address]
    any_address = st.sampled_from([*people, *contracts, ZERO_ADDRESS])
    vault = mostly(st.just(places.vault), any_address)
    bonds, paid = 24_000_000, 24_000_000
    approved = near(240_000_000, 150_000_000, bonds)
    bought = near(limits.purchase_max.base_units)
    bound = limits.deadline_before
    ids = st.binary(min_size=32, max_size=32)
    created = st.tuples(
        mostly(st.sampled_from(limits.providers), any_address),
        mostly(st.just(places.safe), any_address),
        bought,
        st.just(bound - 1) | st.just(bound) | near(bound),
        st.just(3600),
        ids,
        st.just(0),
        st.just(0),
    )
    states = mostly(st.sampled_from([5, 6, 7]), st.integers(0, 8))
    usual: list[tuple[Signature, str, st.SearchStrategy[tuple[Any, ...]]]] = [
        (APPROVE, places.usdc, st.tuples(vault, approved)),
        (TRANSFER, places.usdc, st.tuples(mostly(st.just(X402_WALLET), any_address), near(paid))),
        (CREATE, places.kernel, created),
        (LINK, places.kernel, st.tuples(ids, vault, ids)),
        (TRANSITION, places.kernel, st.tuples(ids, states, st.binary(max_size=40))),
    ]
    never: list[tuple[Signature, str, st.SearchStrategy[tuple[Any, ...]]]] = [
        (OTHERS[0], places.usdc, st.tuples(any_address, any_address, near(paid))),
        (OTHERS[1], places.usdc, st.tuples(vault, near(bonds))),
        (OTHERS[2], places.kernel, st.tuples(ids, bought)),
    ]

    def asked(item: tuple[Signature, str, st.SearchStrategy[tuple[Any, ...]]]) -> Any:
        function, target, arguments = item
        to = mostly(st.just(target), any_address)
        return st.builds(Asked, to, st.just(function), arguments)

    return mostly(st.sampled_from(usual), st.sampled_from(never)).flatmap(asked)


def lets_through(treasury: SafeTreasury, role: bytes, asked: Sequence[Asked]) -> bool:
    """Judge by the limits alone; each call takes from what those before it left."""
    limits = treasury.limits
    assert limits.total and limits.disputes
    left = Counter(
        {
            DAILY: limits.daily.base_units // 3,
            TOTAL: limits.total.base_units,
            BONDS: limits.disputes.bonds_daily.base_units // 3,
            DISPUTE_COUNT: limits.disputes.count_daily,
            X402: 24_000_000,
        }
    )
    for one in asked:
        taken = needs(treasury, role, one)
        if taken is None:
            return False
        left.subtract(taken)
    return min(left.values()) >= 0


def needs(treasury: SafeTreasury, role: bytes, one: Asked) -> dict[bytes, int] | None:
    """What a call takes from allowances; None for one that is never allowed."""
    limits, places, given_ = treasury.limits, treasury.places, one.arguments
    match role, one.to, one.function:
        case (r, to, f) if (r, to, f) == (PURCHASES, places.usdc, APPROVE):
            spender, amount = given_
            return {DAILY: amount, TOTAL: amount} if spender == places.vault else None
        case (r, to, f) if (r, to, f) == (PURCHASES, places.usdc, TRANSFER):
            return {X402: given_[1]} if given_[0] == X402_WALLET else None
        case (r, to, f) if (r, to, f) == (PURCHASES, places.kernel, CREATE):
            provider, requester, amount, deadline = given_[:4]
            fits = (
                provider in limits.providers
                and requester == places.safe
                and amount <= limits.purchase_max.base_units
                and deadline < limits.deadline_before
            )
            return {} if fits else None
        case (r, to, f) if (r, to, f) == (PURCHASES, places.kernel, LINK):
            return {} if given_[1] == places.vault else None
        case (r, to, f) if (r, to, f) == (PURCHASES, places.kernel, TRANSITION):
            return {} if given_[1] in (5, 7) else None
        case (r, to, f) if (r, to, f) == (DISPUTES, places.usdc, APPROVE):
            return {BONDS: given_[1]} if given_[0] == places.vault else None
        case (r, to, f) if (r, to, f) == (DISPUTES, places.kernel, TRANSITION):
            return {DISPUTE_COUNT: 1} if given_[1] == 6 else None
    return None


def judge(treasury: SafeTreasury, count: int) -> None:
    roles_drawn = mostly(st.just(PURCHASES), st.just(DISPUTES))

    @settings(max_examples=count, deadline=None, suppress_health_check=[*HealthCheck])
    @given(roles_drawn, st.lists(calls(treasury), min_size=1, max_size=3))
    def agree(role: bytes, asked: list[Asked]) -> None:
        one_by_one = [treasury.refusal(a.call.to, a.call.data, role=role) for a in asked]
        at_once = treasury.refusal_together([a.call for a in asked], role=role)
        for one, refusal in zip(asked, one_by_one, strict=True):
            allowed = lets_through(treasury, role, [one])
            assert passed(refusal) == allowed, (one, refusal)
        assert passed(at_once) == lets_through(treasury, role, asked), (asked, at_once)

    agree()


def passed(refusal: Any) -> bool:
    """Whether the role let it through, whatever the contract behind it said."""
    return refusal is None or refusal.name == "ModuleTransactionFailed"


def test_a_role_lets_exactly_what_the_limits_say_through(
    make_treasury: Callable[..., SafeTreasury],
) -> None:
    judge(make_treasury(total=Usdc("150")), 200)


@pytest.mark.campaign
def test_a_role_does_so_for_many_calls(make_treasury: Callable[..., SafeTreasury]) -> None:
    judge(make_treasury(total=Usdc("150")), 3000)
