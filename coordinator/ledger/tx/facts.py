"""Facts of a decision, read in its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection, bindparam, func, literal_column, select

from coordinator.domain.chain.gas import Fees, purchases_left, reserve_wei
from coordinator.domain.limits.limits import CounterKey, Usage
from coordinator.domain.limits.rules import Opening, Rules
from coordinator.domain.purchase.decision import Facts, Funds
from coordinator.domain.purchase.lifecycle import UNFUNDED, Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from coordinator.ledger.limits.counters import charges_of, read_usage
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared

# Older balances refuse nothing: the executor checks again before it signs.
_OBSERVATION_SECONDS: Final = 180
_UNFINISHED: Final = (*UNFUNDED, Status.FUNDED, Status.STARTED, Status.DELIVERED)
_REQUESTED: Final = tuple(f"x402_{status}" for status in UNFUNDED)
_o = t.observations.c
_PAUSED: Final = Prepared(select(t.pauses.c.scope_kind, t.pauses.c.scope_id))
_SEEN: Final = Prepared(
    select(
        _o.treasury,
        _o.at,
        _o.block_number,
        _o.usdc_balance,
        _o.gas_balance_wei,
        _o.max_fee_per_gas,
        _o.l1_fee_upper_bound_wei,
        _o.call_gas,
        _o.making_gas,
    )
)
_PROMISED: Final = Prepared(
    select(t.purchase_totals.c.status, t.purchase_totals.c.count, t.purchase_totals.c.amount)
)
_p, _i = t.purchases.c, t.increases.c
_WAITING: Final = Prepared(
    select(
        select(func.count())
        .select_from(t.purchases)
        .where(_p.agent == bindparam("agent_"), _p.status == literal_column("'awaiting_approval'"))
        .scalar_subquery()
        + select(func.count())
        .select_from(t.increases)
        .where(
            _i.agent == bindparam("agent_"),
            _i.status == literal_column("'waiting'"),
            _i.expires_at > bindparam("now_"),
        )
        .scalar_subquery()
    )
)


def count_waiting(connection: Connection, agent: str, *, now: int) -> int:
    """Count the agent's purchases and requests for more that wait for people at ``now``."""
    row = _WAITING.one(connection, {"agent_": agent, "now_": now})
    return int(row[0]) if row else 0


@dataclass(slots=True)
class TreasuryState:
    """Pauses, the balances last seen, and what unfinished purchases need.

    ``unstarted`` purchases, of ``promised`` USDC in all, have no funded escrow; ``unended`` have.
    ``requests`` is the USDC that is promised for HTTP requests, which another account pays.
    """

    paused: frozenset[tuple[str, str]]
    seen: Mapping[str, tuple[int, int, int, int, Fees]]
    unstarted: int
    promised: int
    unended: int
    requests: int = 0

    def request_funds(self, wallet: str, now: int, own: Purchase | None = None) -> Funds | None:
        """Return what the wallet that pays for HTTP requests can still promise, as ``funds``."""
        seen = self.seen.get(wallet)
        if seen is None or now - seen[0] > _OBSERVATION_SECONDS:
            return None
        at, block, usdc, *_ = seen
        promised = self.requests - (own.amount.base_units if own is not None else 0)
        free = Usdc.from_base_units(usdc - promised)
        return Funds(free, True, block_number=block, age_seconds=max(0, now - at))

    def funds(self, treasury: str, now: int, own: Purchase | None = None) -> Funds | None:
        """Return what the balances last read can still promise; None when they are old.

        ``own`` is left out of what is promised already.
        """
        seen = self.seen.get(treasury)
        if seen is None or now - seen[0] > _OBSERVATION_SECONDS:
            return None
        at, block, usdc, wei, fees = seen
        count, promised = self.unstarted, self.promised
        if own is not None:
            count, promised = count - 1, promised - own.amount.base_units
        reserved = reserve_wei(fees, unstarted=count, unended=self.unended)
        left = purchases_left(wei, reserved, fees)
        free = Usdc.from_base_units(usdc - promised)
        return Funds(
            usdc_free=free,
            gas_is_enough=left >= 1 or not fees.max_fee_per_gas,
            block_number=block,
            age_seconds=max(0, now - at),
        )

    def promise(self, amount: Usdc, *, x402: bool) -> None:
        """Count a purchase that was just admitted."""
        if x402:
            self.requests += amount.base_units
            return
        self.unstarted += 1
        self.promised += amount.base_units


def read_treasury_state(connection: Connection) -> TreasuryState:
    """Read the state of the treasury in the caller's transaction."""
    unstarted = promised = unended = requests = 0
    for status, count, amount in _PROMISED.rows(connection):
        if status in UNFUNDED:
            unstarted, promised = unstarted + count, promised + amount
        elif status in _UNFINISHED:
            unended += count
        elif status in _REQUESTED:
            requests += amount
    seen = {
        treasury: (at, block, usdc, int(wei), Fees(fee, 0, l1, call, making))
        for treasury, at, block, usdc, wei, fee, l1, call, making in _SEEN.rows(connection)
    }
    paused = frozenset((kind, of) for kind, of in _PAUSED.rows(connection))
    return TreasuryState(paused, seen, unstarted, promised, unended, requests)


def read_facts(
    connection: Connection,
    rules: Rules,
    minimum: Usdc,
    treasury: str,
    now: int,
    openings: Callable[[str, str], Opening | None],
    own: Purchase | None = None,
    *,
    x402: bool = False,
) -> Facts:
    """Read the facts of a decision, in the caller's transaction.

    With ``x402`` the ``treasury`` is the wallet that pays for HTTP requests.
    ``own``, which people approve, is left out of usage and of what is promised.
    """
    own_charges = frozenset(charges_of(connection, own.id, "purchase")) if own else frozenset()

    def usage(keys: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
        read = read_usage(connection, keys)
        if own is None:
            return read
        return {
            key: Usage.of(used.held - own.amount, used.spent) if _counts(key, own_charges) else used
            for key, used in read.items()
        }

    state = read_treasury_state(connection)
    return Facts(
        rules=rules,
        now=now,
        minimum=minimum,
        usage=usage,
        paused=state.paused,
        funds=state.request_funds(treasury, now, own) if x402 else state.funds(treasury, now, own),
        openings=openings,
        by_people=own is not None,
        waiting=partial(count_waiting, connection, now=now),
    )


def _counts(key: CounterKey, charges: Iterable[CounterKey]) -> bool:
    """Whether one of the charges is in what the key's usage sums up."""
    if key.window.rolling_hours is None:
        return key in charges
    return any(
        c.scope == key.scope and c.window == key.window and c.start >= key.start for c in charges
    )
