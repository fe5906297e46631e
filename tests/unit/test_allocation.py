"""A pool's amount is shared to the base unit, and nobody's minimum or floor is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.limits.allocation import (
    Member,
    Moved,
    by_priority,
    by_usage,
    emergency,
    fixed,
    rebalanced,
)
from coordinator.domain.usdc import ZERO, Usdc

Sharing = Callable[[Usdc, list[Member]], dict[str, Usdc]]


def half_and_half(amount: Usdc, members: list[Member]) -> dict[str, Usdc]:
    return rebalanced(amount, members, priority_weight=50, usage_weight=50)


def mostly_usage(amount: Usdc, members: list[Member]) -> dict[str, Usdc]:
    return rebalanced(amount, members, priority_weight=7, usage_weight=93)


SHARINGS: list[Sharing] = [fixed, by_usage, by_priority, half_and_half, mostly_usage]
BY_PRIORITY: list[Sharing] = [by_priority, half_and_half, mostly_usage]
every_sharing = pytest.mark.parametrize("share", SHARINGS)


def units(base_units: int) -> Usdc:
    return Usdc.from_base_units(base_units)


# Small amounts make ties and remainders common, large ones are where a float would lose units.
amounts = st.one_of(st.integers(0, 12), st.integers(0, 10**15)).map(units)


@st.composite
def pools(draw: st.DrawFn) -> list[Member]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True))
    return [
        Member(name, draw(st.integers(1, 10)), minimum=draw(amounts), used=draw(amounts))
        for name in names
    ]


def total(parts: dict[str, Usdc]) -> Usdc:
    return sum(parts.values(), ZERO)


@st.composite
def shareable(draw: st.DrawFn) -> tuple[Usdc, list[Member]]:
    members = draw(pools())
    return sum((member.minimum for member in members), draw(amounts)), members


@every_sharing
@given(shareable())
def test_shares_sum_to_the_amount_and_keep_every_minimum(
    share: Sharing, pool: tuple[Usdc, list[Member]]
) -> None:
    amount, members = pool
    shares = share(amount, members)
    assert list(shares) == sorted(member.agent for member in members)
    assert total(shares) == amount
    assert all(shares[member.agent] >= member.minimum for member in members)


@every_sharing
@given(shareable(), st.randoms(use_true_random=False))
def test_the_order_of_members_changes_nothing(
    share: Sharing, pool: tuple[Usdc, list[Member]], random: Random
) -> None:
    amount, members = pool
    shuffled = members[:]
    random.shuffle(shuffled)
    assert share(amount, shuffled) == share(amount, members)


@given(shareable())
def test_only_a_binding_minimum_raises_a_share_above_an_equal_one(
    pool: tuple[Usdc, list[Member]],
) -> None:
    amount, members = pool
    shares = fixed(amount, members)
    for member in members:
        if shares[member.agent] > member.minimum:
            assert all(shares[member.agent] <= share + units(1) for share in shares.values())


@given(shareable())
def test_only_a_binding_minimum_raises_a_share_above_a_proportional_one(
    pool: tuple[Usdc, list[Member]],
) -> None:
    amount, members = pool
    shares = by_usage(amount, members)
    if not any(member.used for member in members):
        assert shares == fixed(amount, members)
        return
    for one in members:
        if shares[one.agent] > one.minimum:
            for other in members:
                above = (shares[one.agent].base_units - 1) * other.used.base_units
                below = (shares[other.agent].base_units + 1) * one.used.base_units
                assert above <= below


@pytest.mark.parametrize("share", [fixed, by_usage])
@given(shareable())
def test_a_minimum_that_does_not_bind_changes_nothing(
    share: Sharing, pool: tuple[Usdc, list[Member]]
) -> None:
    amount, members = pool
    without = share(amount, [replace(member, minimum=ZERO) for member in members])
    modest = [
        replace(member, minimum=max(ZERO, min(member.minimum, without[member.agent] - units(1))))
        for member in members
    ]
    assert share(amount, modest) == without


@pytest.mark.parametrize("share", BY_PRIORITY)
@given(shareable())
def test_a_higher_priority_never_gets_less_on_top_of_its_minimum(
    share: Sharing, pool: tuple[Usdc, list[Member]]
) -> None:
    amount, members = pool
    equal = [replace(member, used=units(3)) for member in members]
    shares = share(amount, equal)
    on_top = [(m.priority, shares[m.agent] - m.minimum) for m in equal]
    assert all(more >= less for high, more in on_top for low, less in on_top if high > low)


@pytest.mark.parametrize("share", BY_PRIORITY)
@given(shareable())
def test_a_raised_priority_never_costs_its_agent(
    share: Sharing, pool: tuple[Usdc, list[Member]]
) -> None:
    amount, (first, *others) = pool
    shares = [
        share(amount, [replace(first, priority=priority), *others])[first.agent]
        for priority in range(1, 11)
    ]
    assert shares == sorted(shares)


@given(pools(), amounts)
def test_rebalancing_by_usage_alone_is_by_usage_where_no_minimum_stands(
    members: list[Member], amount: Usdc
) -> None:
    free = [replace(member, minimum=ZERO) for member in members]
    assert rebalanced(amount, free, priority_weight=0, usage_weight=100) == by_usage(amount, free)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (fixed, ["50.00", "25.00", "25.00"]),
        (by_usage, ["50.00", "12.50", "37.50"]),
        (by_priority, ["55.00", "15.00", "30.00"]),
        # Of the 50 above the minimum: half of it as 1:3:6, half of it as 0:1:3.
        (half_and_half, ["52.50", "13.75", "33.75"]),
    ],
)
def test_a_minimum_is_a_lower_bound_or_comes_first(share: Sharing, expected: list[str]) -> None:
    members = [
        Member("a", 1, minimum=Usdc("50")),
        Member("b", 3, used=Usdc("1")),
        Member("c", 6, used=Usdc("3")),
    ]
    shares = share(Usdc("100"), members)
    assert shares == dict(zip("abc", map(Usdc, expected), strict=True))


def test_paying_one_minimum_can_make_another_bind() -> None:
    members = [Member("a", 1, minimum=units(60)), Member("b", 1, minimum=units(30)), Member("c", 1)]
    assert fixed(units(100), members) == {"a": units(60), "b": units(30), "c": units(10)}
    members[1] = Member("b", 1, minimum=units(19))
    assert fixed(units(100), members) == {"a": units(60), "b": units(20), "c": units(20)}


def test_units_left_over_go_to_the_largest_remainders_and_ties_to_the_first_by_name() -> None:
    assert fixed(units(5), [Member(name, 1) for name in "cab"]) == {
        "a": units(2),
        "b": units(2),
        "c": units(1),
    }
    # 10 as 1:2:3 is 1 2/3, 3 1/3 and 5.
    assert by_priority(units(10), [Member("a", 1), Member("b", 2), Member("c", 3)]) == {
        "a": units(2),
        "b": units(3),
        "c": units(5),
    }


@st.composite
def emergencies(
    draw: st.DrawFn,
) -> tuple[dict[str, Usdc], list[Member], str, Usdc, dict[str, Usdc]]:
    members = draw(pools())
    names = [member.agent for member in members]
    allocations = {name: draw(amounts) for name in names}
    floor = draw(st.dictionaries(st.sampled_from(names), amounts))
    return allocations, members, draw(st.sampled_from(names)), draw(amounts), floor


@given(emergencies())
def test_an_emergency_moves_only_what_lower_or_equal_priorities_can_spare(
    case: tuple[dict[str, Usdc], list[Member], str, Usdc, dict[str, Usdc]],
) -> None:
    allocations, members, agent, amount, floor = case
    before = dict(allocations)
    result = emergency(allocations, members, agent=agent, amount=amount, floor=floor)

    assert allocations == before
    assert total(result.allocations) == total(before)
    assert result.allocations[agent] == before[agent] + result.moved
    asker = next(member for member in members if member.agent == agent)
    spare = {}
    for member in members:
        name = member.agent
        after, kept = result.allocations[name], max(member.minimum, floor.get(name, ZERO))
        if name == agent:
            continue
        if member.priority > asker.priority or before[name] <= kept:
            assert after == before[name]
        else:
            assert kept <= after <= before[name]
            spare[name] = before[name] - kept
    assert result.moved == min(amount, total(spare))
    # Whoever gave has a giver of lower priority before it only when that one has nothing left.
    ranked = sorted((m.priority, m.agent) for m in members if m.agent in spare)
    gifts = [before[name] - result.allocations[name] for _, name in ranked]
    for place, (_, name) in enumerate(ranked):
        if any(gifts[place + 1 :]):
            assert gifts[place] == spare[name]


@given(emergencies(), st.randoms(use_true_random=False))
def test_the_order_of_members_changes_no_emergency(
    case: tuple[dict[str, Usdc], list[Member], str, Usdc, dict[str, Usdc]],
    random: Random,
) -> None:
    allocations, members, agent, amount, floor = case
    shuffled = members[:]
    random.shuffle(shuffled)
    reordered = {member.agent: allocations[member.agent] for member in shuffled}
    assert emergency(reordered, shuffled, agent=agent, amount=amount, floor=floor) == emergency(
        allocations, members, agent=agent, amount=amount, floor=floor
    )


def test_the_lowest_priority_gives_first_and_ties_by_name() -> None:
    members = [Member("urgent", 5), Member("high", 9), Member("b", 2), Member("a", 2)]
    members.append(Member("equal", 5, minimum=Usdc("8")))
    allocations = {member.agent: Usdc("10") for member in members}
    floor = {"a": Usdc("6")}

    def move(amount: str) -> Moved:
        return emergency(allocations, members, agent="urgent", amount=Usdc(amount), floor=floor)

    first = move("5")
    assert first.moved == Usdc("5")
    assert (first.allocations["a"], first.allocations["b"]) == (Usdc("6"), Usdc("9"))
    everything = move("100")
    assert everything.moved == Usdc("16")
    assert everything.allocations == {
        "a": Usdc("6"),
        "b": ZERO,
        "equal": Usdc("8"),
        "high": Usdc("10"),
        "urgent": Usdc("26"),
    }


@every_sharing
@pytest.mark.parametrize(
    ("amount", "members", "message"),
    [
        (1, [], "a pool without members"),
        (1, [Member("a", 1), Member("a", 2)], "a is listed twice"),
        (-1, [Member("a", 1)], "the amount to share must not be negative: -0.000001 USDC"),
        (1, [Member("a", 1, units(1)), Member("b", 1, units(1))], "minimums make 0.000002 USDC"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    share: Sharing, amount: int, members: list[Member], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        share(units(amount), members)


@pytest.mark.parametrize("priority", [0, 11, -1])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    with pytest.raises(ValueError, match=f"a's priority must be from 1 to 10, not {priority}"):
        Member("a", priority)


def test_a_member_with_a_negative_amount_is_refused() -> None:
    with pytest.raises(ValueError, match="a's minimum must not be negative"):
        Member("a", 1, minimum=units(-1))
    with pytest.raises(ValueError, match="a's used amount must not be negative"):
        Member("a", 1, used=units(-1))


@pytest.mark.parametrize("weights", [(50, 49), (0, 0), (110, -10), (-10, 110)])
def test_weights_that_do_not_make_100_are_refused(weights: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"not {weights[0]} and {weights[1]}"):
        rebalanced(units(1), [Member("a", 1)], priority_weight=weights[0], usage_weight=weights[1])


@pytest.mark.parametrize(
    ("allocations", "agent", "amount", "floor", "message"),
    [
        ({"a": 1, "b": 1}, "x", 1, {}, "x is not a member"),
        ({"a": 1, "b": 1, "x": 1}, "a", 1, {}, "x is not a member"),
        ({"a": 1, "b": 1}, "a", 1, {"x": 1}, "x is not a member"),
        ({"a": 1}, "a", 1, {}, "b has no allocation"),
        ({"a": 1, "b": -1}, "a", 1, {}, "b's allocation must not be negative"),
        ({"a": 1, "b": 1}, "a", 1, {"b": -1}, "b's floor must not be negative"),
        ({"a": 1, "b": 1}, "a", -1, {}, "the amount to move must not be negative"),
    ],
)
def test_an_emergency_that_names_wrongly_is_refused(
    allocations: dict[str, int], agent: str, amount: int, floor: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        emergency(
            {name: units(part) for name, part in allocations.items()},
            [Member("a", 1), Member("b", 1)],
            agent=agent,
            amount=units(amount),
            floor={name: units(part) for name, part in floor.items()},
        )


def test_an_emergency_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="a pool without members"):
        emergency({}, [], agent="a", amount=units(1), floor={})
