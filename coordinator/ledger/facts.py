"""Facts of a decision, read in its own transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, func, select

from coordinator.domain.decision import Facts, Funds
from coordinator.domain.gas import Fees, purchases_left, reserve_wei
from coordinator.domain.limits import CounterKey, Usage
from coordinator.domain.policy import Policy
from coordinator.domain.purchase import UNFUNDED, Purchase, Status
from coordinator.domain.usdc import Usdc
from coordinator.ledger import schema as t
from coordinator.ledger.counters import charges_of, read_usage

_p = t.purchases.c
# Older balances refuse nothing: the executor checks again before it signs.
_OBSERVATION_SECONDS = 60
_UNFINISHED = (*UNFUNDED, Status.FUNDED, Status.STARTED, Status.DELIVERED)


def read_facts(
    connection: Connection,
    policy: Policy,
    minimum: Usdc,
    treasury: str,
    now: int,
    own: Purchase | None = None,
) -> Facts:
    """What a decision is made from, in the caller's transaction; ``own`` is left out of usage."""
    own_charges = frozenset(charges_of(connection, own.id, "purchase")) if own else frozenset()

    def usage(keys: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
        read = read_usage(connection, keys)
        if own is None:
            return read
        return {
            key: Usage(used.held - own.amount, used.spent) if key in own_charges else used
            for key, used in read.items()
        }

    paused = {
        (row.scope_kind, row.scope_id)
        for row in connection.execute(select(t.pauses.c.scope_kind, t.pauses.c.scope_id))
    }
    funds = read_funds(connection, treasury, now, own)
    return Facts(policy, now, minimum, usage, frozenset(paused), funds)


def read_funds(
    connection: Connection, treasury: str, now: int, own: Purchase | None
) -> Funds | None:
    """What could still be promised by the balances last read; None when they are old."""
    query = select(t.observations).where(t.observations.c.treasury == treasury)
    seen = connection.execute(query).one_or_none()
    if seen is None or now - seen.at > _OBSERVATION_SECONDS:
        return None
    unfinished = (
        select(_p.status, func.count(), func.sum(_p.amount))
        .where(_p.status.in_([status.value for status in _UNFINISHED]))
        .group_by(_p.status)
    )
    count = amount = unended = 0
    for status, number, total in connection.execute(unfinished):
        if Status(status) in UNFUNDED:
            count, amount = count + number, amount + int(total)
        else:
            unended += number
    if own is not None:
        count, amount = count - 1, amount - own.amount.base_units
    fees = Fees(seen.max_fee_per_gas, 0, seen.l1_fee_upper_bound_wei)
    reserved = reserve_wei(fees, unstarted=count, unended=unended)
    left = purchases_left(int(seen.gas_balance_wei), reserved, fees)
    free = Usdc.from_base_units(seen.usdc_balance - amount)
    return Funds(usdc_free=free, gas_is_enough=left >= 1 or not seen.max_fee_per_gas)
