"""Share a pool's amount among its agents.

Every sharing names each member once, in order of agent, and sums to the amount to the base unit:
shares are rounded down, and the base units left over go one each to the largest remainders, ties
to the agent first by name. Nobody gets less than its minimum, by one of two rules:

- *at least*: each gets max(minimum, f x weight), with the one factor f that makes the amount. A
  minimum at or below the proportional share changes nothing. One above it is paid exactly, and
  the members whose minimum does not bind bear that in proportion to their weights.
- *on top*: each gets its minimum, and what is left is shared in proportion to the weights.

``used`` only weighs: a share may be below it, unless the caller makes it the minimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from coordinator.domain.usdc import ZERO, Usdc


@dataclass(frozen=True, slots=True)
class Member:
    """One agent of a pool; ``priority`` runs from 1 to 10, the most important.

    ``used`` is what it holds and has spent in the window by which usage is measured. Raises
    ValueError for another priority or a negative amount.
    """

    agent: str
    priority: int
    minimum: Usdc = ZERO
    used: Usdc = ZERO

    def __post_init__(self) -> None:
        if not 1 <= self.priority <= 10:
            raise ValueError(f"{self.agent}'s priority must be from 1 to 10, not {self.priority}")
        _refuse_negative(f"{self.agent}'s minimum", self.minimum)
        _refuse_negative(f"{self.agent}'s used amount", self.used)


@dataclass(frozen=True, slots=True)
class Moved:
    """New allocations with the same sum, and the amount moved of the amount requested."""

    allocations: dict[str, Usdc]
    moved: Usdc


def fixed(amount: Usdc, members: Iterable[Member]) -> dict[str, Usdc]:
    """Share ``amount`` equally, each share *at least* the member's minimum.

    Raises ValueError when there are no members, an agent stands twice, the amount is negative or
    the minimums exceed it; so do the other sharings.
    """
    listed = _checked(amount, members)
    return _at_least(amount, listed, {member.agent: 1 for member in listed})


def by_usage(amount: Usdc, members: Iterable[Member]) -> dict[str, Usdc]:
    """Share ``amount`` in proportion to ``used``, each share *at least* the member's minimum.

    Equal shares when nobody used anything; else a member that used nothing gets its minimum.
    """
    listed = _checked(amount, members)
    return _at_least(amount, listed, _usage_weights(listed))


def by_priority(amount: Usdc, members: Iterable[Member]) -> dict[str, Usdc]:
    """Give the minimums, and *on top* of them the rest of ``amount`` by priority."""
    return rebalanced(amount, members, priority_weight=100, usage_weight=0)


def rebalanced(
    amount: Usdc, members: Iterable[Member], *, priority_weight: int, usage_weight: int
) -> dict[str, Usdc]:
    """Give the minimums, and *on top* of them the rest of ``amount`` by priority and usage.

    A member's part of the rest is ``priority_weight`` percent of its part of all priorities plus
    ``usage_weight`` percent of its part of all usage (equal parts when nobody used anything).
    Raises ValueError unless both are 0 or more and make 100.
    """
    if min(priority_weight, usage_weight) < 0 or priority_weight + usage_weight != 100:
        got = f"{priority_weight} and {usage_weight}"
        raise ValueError(f"priority and usage weights must be 0 or more and make 100, not {got}")
    listed = _checked(amount, members)
    usage = _usage_weights(listed)
    all_usage = sum(usage.values())
    all_priorities = sum(member.priority for member in listed)
    # Both parts over the common denominator 100 x all_priorities x all_usage.
    weights = {
        member.agent: priority_weight * member.priority * all_usage
        + usage_weight * usage[member.agent] * all_priorities
        for member in listed
    }
    rest = amount - sum((member.minimum for member in listed), ZERO)
    on_top = _proportional(rest.base_units, weights)
    return {m.agent: m.minimum + Usdc.from_base_units(on_top[m.agent]) for m in listed}


def emergency(
    allocations: Mapping[str, Usdc],
    members: Iterable[Member],
    *,
    agent: str,
    amount: Usdc,
    floor: Mapping[str, Usdc],
) -> Moved:
    """Move up to ``amount`` to ``agent`` from others of its priority or below.

    The lowest priority gives first, ties by agent name. Each keeps the greater of its minimum and
    its ``floor`` (what it holds and has spent; zero where missing), and gives what is above. Less
    than ``amount`` is moved when that is all there is. Higher priorities are never touched.

    Raises ValueError when there are no members, an agent stands twice or is not a member,
    ``allocations`` leaves a member out, or an amount is negative.
    """
    listed = _checked_names(members)
    named = {member.agent: member for member in listed}
    for other in (agent, *allocations, *floor):
        if other not in named:
            raise ValueError(f"{other} is not a member of the pool")
    for other in named:
        if other not in allocations:
            raise ValueError(f"{other} has no allocation")
        _refuse_negative(f"{other}'s allocation", allocations[other])
        _refuse_negative(f"{other}'s floor", floor.get(other, ZERO))
    _refuse_negative("the amount to move", amount)

    after = {member: allocations[member] for member in named}
    missing = amount
    for giver in sorted(listed, key=lambda member: (member.priority, member.agent)):
        if giver.agent == agent or giver.priority > named[agent].priority:
            continue
        kept = max(giver.minimum, floor.get(giver.agent, ZERO))
        given = min(missing, max(ZERO, after[giver.agent] - kept))
        after[giver.agent] -= given
        after[agent] += given
        missing -= given
    return Moved(after, amount - missing)


def _at_least(amount: Usdc, members: list[Member], weights: Mapping[str, int]) -> dict[str, Usdc]:
    rest, free = amount.base_units, members
    shares: dict[str, int] = {}
    # Paying a binding minimum leaves less for the others, whose own may bind then. Those that are
    # left always have a weight: not all of them can be short of minimums that fit in the rest.
    while True:
        total = sum(weights[member.agent] for member in free)
        bound = [m for m in free if m.minimum.base_units * total > rest * weights[m.agent]]
        if not bound:
            break
        shares |= {member.agent: member.minimum.base_units for member in bound}
        rest = amount.base_units - sum(shares.values())
        free = [member for member in free if member.agent not in shares]
    shares |= _proportional(rest, {member.agent: weights[member.agent] for member in free})
    return {member.agent: Usdc.from_base_units(shares[member.agent]) for member in members}


def _proportional(base_units: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split ``base_units`` by largest remainder; the weights must not all be zero."""
    total = sum(weights.values())
    shares = {agent: base_units * weight // total for agent, weight in weights.items()}
    left = base_units - sum(shares.values())
    remainders = {agent: base_units * weight % total for agent, weight in weights.items()}
    for agent in sorted(weights, key=lambda agent: (-remainders[agent], agent))[:left]:
        shares[agent] += 1
    return shares


def _usage_weights(members: list[Member]) -> dict[str, int]:
    unused = not any(member.used for member in members)
    return {member.agent: 1 if unused else member.used.base_units for member in members}


def _checked(amount: Usdc, members: Iterable[Member]) -> list[Member]:
    _refuse_negative("the amount to share", amount)
    listed = _checked_names(members)
    minimums = sum((member.minimum for member in listed), ZERO)
    if minimums > amount:
        raise ValueError(f"the minimums make {minimums} USDC, above the {amount} to share")
    return listed


def _checked_names(members: Iterable[Member]) -> list[Member]:
    """Sort the members by agent, so that no result depends on their order."""
    listed = sorted(members, key=lambda member: member.agent)
    if not listed:
        raise ValueError("a pool without members has nobody to share among")
    for first, second in pairwise(listed):
        if first.agent == second.agent:
            raise ValueError(f"{first.agent} is listed twice")
    return listed


def _refuse_negative(what: str, amount: Usdc) -> None:
    if amount < ZERO:
        raise ValueError(f"{what} must not be negative: {amount} USDC")
