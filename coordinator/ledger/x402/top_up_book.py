"""Top-ups that the worker orders by itself, and what of the float is held."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from sqlalchemy import Connection, case, select

from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.top_ups import TOP_UP, TOP_UP_PREFIX, WINDOW_SECONDS, Headroom
from coordinator.ledger.chain.findings import tell_findings
from coordinator.ledger.chain.signable import Signable
from coordinator.ledger.chain.top_up_rules import signed_units
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.facts import read_treasury_state
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

WORKER: Final = "worker"
# What failed would fail again at once, each time with rows of the log.
_REST_SECONDS: Final = 600


class Held(NamedTuple):
    """USDC that is held for what is not paid yet, of the treasury and of the wallet."""

    treasury: Usdc
    wallet: Usdc


class Wanted(NamedTuple):
    """USDC that fills the float of the wallet, and how much of it the treasury can spare."""

    wallet: str
    usdc: Usdc
    treasury: Usdc


class TopUpBook:
    """Orders one top-up at a time, within what the worker would sign."""

    def __init__(self, transactions: Transactions, evidence: Evidence) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._evidence = evidence

    def held(self) -> Held:
        with self._database.read() as connection:
            state = read_treasury_state(connection)
        return Held(Usdc.from_base_units(state.promised), Usdc.from_base_units(state.requests))

    def left(self, *, now: int) -> Usdc | None:
        """Return what the daily limit leaves at present; None where there is none."""
        with self._transactions.read() as tx:
            return window_left(tx, now=now)

    def refused(self, wanted: Wanted, *, seen: Seen, now: int) -> str | None:
        """Say why none is ordered; None where ``order`` has to look, which writes."""
        with self._transactions.read() as tx:
            signable = Signable(tx, self._evidence, now=now, seen=seen)
            found = self._judged(tx, signable, wanted, now)
        return found if isinstance(found, str) and not signable.tampered else None

    def order(self, lease: Lease, wanted: Wanted, *, seen: Seen, now: int) -> Usdc | str:
        """Order what can be sent of it; why not, where nothing was.

        LeaseLost when another executor has taken over.
        """
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            signable = Signable(tx, self._evidence, now=now, seen=seen)
            found = self._judged(tx, signable, wanted, now)
            tell_findings(tx, signable, now)
            if isinstance(found, Usdc):
                insert_order(
                    tx,
                    TOP_UP,
                    order_id=new_order_id(),
                    recipient=wanted.wallet,
                    amount=found,
                    by=WORKER,
                    reason="the float is below the policy's top_up_below",
                    now=now,
                )
        return found

    def _judged(self, tx: Tx, signable: Signable, wanted: Wanted, now: int) -> Usdc | str:
        if under_way(tx.connection):
            return "another top-up is on its way"
        if (failed := _failed(tx.connection, now)) is not None:
            return f"the last one failed: {failed}"
        left = signable.top_up_left()
        if left is None:
            return "the policy has no top_up_daily_limit"
        headroom = Headroom(wanted.treasury, left)
        amount = headroom.of(wanted.usdc)
        if amount is None:
            return headroom.refused(wanted.usdc) or "it is too little"
        return signable.top_up_refused(wanted.wallet, amount) or amount


def new_order_id() -> str:
    return TOP_UP_PREFIX + secrets.token_hex(10)


def window_left(tx: Tx, *, now: int) -> Usdc | None:
    """Return what the policy's daily limit leaves, by the log; None where there is no limit."""
    daily = tx.policy.request_payments.top_up_daily_limit
    if daily is None:
        return None
    signed = signed_units(tx.connection, tx.audit, since=now - WINDOW_SECONDS)
    return max(ZERO, daily - Usdc.from_base_units(signed))


def under_way(connection: Connection) -> bool:
    """Whether a top-up is ordered and has not ended."""
    o = t.orders.c
    query = select(o.id).where(o.kind == TOP_UP, o.status == "approved").limit(1)
    return connection.execute(query).first() is not None


def _failed(connection: Connection, now: int) -> str | None:
    o = t.orders.c
    query = select(o.status, o.message, o.created_at).where(o.kind == TOP_UP)
    # Of one second a failed one counts as the newest.
    failed_first = case((o.status == "failed", 0), else_=1)
    query = query.order_by(o.created_at.desc(), failed_first).limit(1)
    newest = connection.execute(query).one_or_none()
    if newest is None or newest.status != "failed" or newest.created_at <= now - _REST_SECONDS:
        return None
    return newest.message or "nobody knows why"
