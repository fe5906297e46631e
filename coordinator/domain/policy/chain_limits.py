"""The policy's [treasury] against itself and the other tables: what the chain keeps, or does not.

Faults make the table impossible; warnings name what the policy allows and the chain refuses, and
what only this process limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from coordinator.domain.policy.faults import Fault
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.policy.tables import Limits, Provider, Treasury
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window

# Of what may reach escrows in any 24 hours, the part that may go at once: an approval that was
# kept back, what was full, and what comes back each hour add up to the whole.
APPROVED_PARTS: Final = 3
# So that the part that comes back each hour is a number of base units that is not 0.
_DAILY_MIN: Final = Usdc("1")
# One more costs every purchase about 5,000 gas.
_PROVIDERS_MANY: Final = 25
_WARNED_DAYS: Final = 30
_DAY: Final = 86_400


def at_once(daily: Usdc) -> Usdc:
    """Return how much of a daily limit on chain may go in one moment."""
    return Usdc.from_base_units(daily.base_units // APPROVED_PARTS)


def listed_providers(policy: PolicyModel) -> dict[str, Provider]:
    """Return the providers, by name, that have a place on the chain."""
    table = policy.treasury
    if table is None or table.providers is None:
        return policy.providers
    return {name: policy.providers[name] for name in table.providers}


def refused_on_chain(
    policy: PolicyModel, provider: str | None, amount: Usdc, deadline: int
) -> str | None:
    """Say why the role, as [treasury] has it, refuses the purchase whatever was spent before.

    ``provider`` is the name of the policy's, ``deadline`` the escrow's in unix seconds.
    """
    table = policy.treasury
    if table is None:
        return None
    if amount > table.per_purchase_limit:
        return (
            f"the chain takes at most {table.per_purchase_limit} USDC a purchase from the worker's"
            " key: the Safe's owners have to sign more"
        )
    if provider not in listed_providers(policy):
        return f"{provider} has no place on the chain: the Safe's owners have to list it"
    if deadline >= table.deadline_before:
        return (
            "its deadline is beyond what the chain takes: the Safe's owners have to sign a later"
            " treasury.deadline_before"
        )
    return None


def chain_limit_faults(policy: PolicyModel) -> Iterator[Fault]:
    """Find why the chain could not keep the limits of [treasury]."""
    table = policy.treasury
    if table is None:
        return
    if len(set(table.owners)) != len(table.owners):
        yield ("treasury", "owners"), "names an owner twice"
    if not table.owners or table.threshold > len(table.owners):
        yield ("treasury", "threshold"), f"{table.threshold} of {len(table.owners)} can't sign"
    for key in ("daily_limit", "total_limit", "bonds_daily_limit", "x402_daily_limit"):
        if (amount := getattr(table, key)) is not None and amount < _DAILY_MIN:
            yield ("treasury", key), f"must be {_DAILY_MIN} or more"
    fits = at_once(table.daily_limit)
    if table.per_purchase_limit > fits:
        yield (
            ("treasury", "per_purchase_limit"),
            f"must be at most {fits}: of {table.daily_limit} a day a third may go at once",
        )
    if (table.disputes_daily is None) != (table.bonds_daily_limit is None):
        key = "bonds_daily_limit" if table.disputes_daily is None else "disputes_daily"
        other = "disputes_daily" if table.disputes_daily is None else "bonds_daily_limit"
        yield ("treasury", key), f"needs {other}: a dispute takes both"
    yield from _provider_faults(policy, table)


def _provider_faults(policy: PolicyModel, table: Treasury) -> Iterator[Fault]:
    named = policy.providers if table.providers is None else table.providers
    if not named:
        yield ("treasury", "providers"), "names nobody: a role needs somebody to pay"
    if len(set(named)) != len(named):
        yield ("treasury", "providers"), "names a provider twice"
    for name in table.providers or ():
        if name not in policy.providers:
            yield ("treasury", "providers"), f"there is no provider {name!r}"


def chain_limit_warnings(policy: PolicyModel, *, now: int | None = None) -> Iterator[str]:
    """Name in words where the policy and its [treasury] differ, valid as both are."""
    table = policy.treasury
    if table is None:
        return
    yield from _wider_than_the_chain(policy, table)
    yield from _narrower_than_the_chain(policy, table)
    listed = listed_providers(policy)
    for name in policy.providers:
        if name not in listed:
            yield f"providers.{name} has no place on the chain: the worker's key can't pay it"
    if len(listed) > _PROVIDERS_MANY:
        yield (
            f"treasury.providers are {len(listed)}: each takes about 5,000 gas more in every"
            " purchase"
        )
    if now is not None:
        yield from deadline_warnings(table.deadline_before, policy.escrow.deadline_after, now)


def deadline_warnings(bound: int, deadline_after: int, now: int) -> Iterator[str]:
    """Name that purchases end soon, or have ended, because no deadline fits below the bound."""
    days = (bound - deadline_after - now) // _DAY
    if days < 0:
        yield (
            "treasury.deadline_before leaves no purchase its deadline: write a later day and have"
            " the owners sign it (coordinator treasury propose)"
        )
    elif days < _WARNED_DAYS:
        yield (
            f"treasury.deadline_before ends all purchases in {days} days: write a later day and"
            " have the owners sign it (coordinator treasury propose)"
        )


def _wider_than_the_chain(policy: PolicyModel, table: Treasury) -> Iterator[str]:
    most, daily = table.per_purchase_limit, table.daily_limit
    for agent_id in policy.agents:
        agent = policy.agent(agent_id)
        said = agent.per_purchase_limit if agent is not None else None
        if said is not None and (not isinstance(said, Usdc) or said > most):
            yield (
                f"agents.{agent_id}.per_purchase_limit is {said}, and the chain takes at most"
                f" {most} a purchase: its owners have to sign more"
            )
    whole: Limits = policy.organisation
    for window in (Window.DAILY, Window("rolling_24h")):
        said = whole.amounts.get(window)
        if said is not None and said > daily:
            yield (
                f"organisation.{window}_limit is {said}, and the chain lets {daily} go in any 24"
                f" hours, {at_once(daily)} of it at once"
            )
    total = whole.amounts.get(Window.TOTAL)
    if table.total_limit is not None and (total is None or total > table.total_limit):
        yield (
            f"organisation.total_limit is {total or 'unlimited'}, and the chain lets"
            f" {table.total_limit} go until its owners set it again"
        )
    top_ups = policy.request_payments.top_up_daily_limit
    if top_ups is not None and (table.x402_daily_limit or Usdc("0")) < top_ups:
        yield (
            f"x402.top_up_daily_limit is {top_ups}, and the chain lets"
            f" {table.x402_daily_limit or 'nothing'} go to the wallet in any 24 hours"
        )
    if table.bonds_daily_limit is None:
        yield "treasury.disputes_daily is missing: the worker's key can open no dispute"


def _narrower_than_the_chain(policy: PolicyModel, table: Treasury) -> Iterator[str]:
    """Name what a leaked key may do although the policy does not allow it."""
    daily = policy.organisation.amounts.get(Window.DAILY)
    if daily is not None and daily < table.daily_limit:
        yield (
            f"treasury.daily_limit is {table.daily_limit}, above organisation.daily_limit, {daily}:"
            " a leaked key can take the whole of it"
        )
    biggest = [policy.agent(agent_id) for agent_id in policy.agents]
    limits = [one.per_purchase_limit for one in biggest if one is not None]
    amounts = [one for one in limits if isinstance(one, Usdc)]
    if amounts and len(amounts) == len(limits) and max(amounts) < table.per_purchase_limit:
        yield (
            f"treasury.per_purchase_limit is {table.per_purchase_limit}, and no agent may buy for"
            f" more than {max(amounts)}"
        )
    top_ups = policy.request_payments.top_up_daily_limit
    if table.x402_daily_limit is not None and (top_ups is None or table.x402_daily_limit > top_ups):
        yield (
            f"treasury.x402_daily_limit is {table.x402_daily_limit}, above"
            f" x402.top_up_daily_limit, {top_ups or 'which is missing'}"
        )
