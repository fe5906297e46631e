"""Decide on a request, and hold its amount."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.purchase.decision import Facts, Funds, decide
from coordinator.domain.purchase.purchase import Purchase
from coordinator.ledger.spend.duplicates import find_duplicate
from coordinator.ledger.spend.moves import expire
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.spend.requests import NewRequest, find_bound, write_request
from coordinator.ledger.tx.facts import count_waiting
from coordinator.ledger.tx.transaction import Tx


@dataclass(frozen=True, slots=True)
class ShortOfFunds:
    """The only reason to deny is lack of funds, and the balances may be older than a deposit."""


def request(tx: Tx, asked: NewRequest) -> Purchase | IdempotencyConflict | ShortOfFunds:
    """Return the purchase bound to the key, or decide on a new one and hold its amount.

    Where a duplicate is not wanted, the purchase that it would repeat is returned: even when this
    one is denied, perhaps for what that one holds.
    """
    expire(tx, asked.now)
    bound = find_bound(tx, asked)
    if isinstance(bound, IdempotencyConflict):
        return bound
    if bound is not None:
        return read_purchase(tx, bound)
    facts = Facts(
        rules=tx.rules,
        now=asked.now,
        minimum=asked.minimum,
        usage=tx.sheet.usage,
        paused=tx.treasury_state.paused,
        funds=_funds(tx, asked),
        openings=tx.opening,
        waiting=partial(_waiting_of, tx, asked.now),
    )
    decision = decide(asked.request, facts)
    if asked.unless_duplicate:
        duplicate = find_duplicate(tx, asked.request, decision, asked.now)
        if duplicate is not None:
            return read_purchase(tx, duplicate)
    if decision.short_of_funds and not asked.funds_are_fresh:
        return ShortOfFunds()
    return write_request(tx, asked, decision)


def _funds(tx: Tx, asked: NewRequest) -> Funds | None:
    state = tx.treasury_state
    if asked.request.is_x402:
        return state.request_funds(asked.payer, asked.now)
    return state.funds(asked.payer, asked.now)


def _waiting_of(tx: Tx, now: int, agent: str) -> int:
    tx.flush()
    return count_waiting(tx.connection, agent, now=now)
