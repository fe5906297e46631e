"""Adopt escrows that the chain has and a restored database does not."""

from __future__ import annotations

import json
import secrets
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.limits.rules import Terms
from coordinator.domain.purchase.lifecycle import FINAL, STATUS_OF, X402
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import Usdc
from coordinator.ledger.limits.counters import charges_of
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.spend.holds import charge_hold, place_hold
from coordinator.ledger.spend.purchase_rows import bind_key, insert_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c
_e = t.escrows.c
# What the chain does not tell of a purchase.
_UNSAID: Final = dict.fromkeys(
    (
        *("agent", "idempotency_key", "terms_hash", "service", "category", "task", "session"),
        *("reason_code", "reason_message"),
    )
)


class _Escrow(NamedTuple):
    provider: str
    state: str
    amount: int
    escrow_key: str
    created_at: int
    last_block: int


# A database that is rebuilt without an export adopts every escrow of the past.
_ESCROW: Final = Prepared(
    select(*(_e[name] for name in _Escrow._fields)).where(_e.escrow_id == bindparam("of"))
)
_ATTRIBUTE: Final = Prepared(
    update(t.escrows).where(_e.escrow_id == bindparam("of")).values(purchase_id=bindparam("owner"))
)


def adopt(
    tx: Tx, request: Request, *, key: str, escrow_key: str, now: int
) -> str | IdempotencyConflict | None:
    """The id of the purchase whose USDC already left under ``escrow_key``; None if none did.

    It takes the request's agent and words, and its hold counts against the agent and category
    too, even beyond their limits: the money is spent. For other terms an IdempotencyConflict is
    the answer.
    """
    tx.flush()
    connection = tx.connection
    known = select(_e.escrow_id, _e.purchase_id).where(_e.escrow_key == escrow_key)
    escrow = connection.execute(known).one_or_none()
    if escrow is None:
        return None
    if escrow.purchase_id is None:
        attribute_to_organisation(tx, escrow.escrow_id, now=now)
    row = _unattributed(connection, escrow_key)
    if row is None:
        return None
    policy = tx.policy
    name, provider = policy.provider(request.provider)
    service = request.service or (provider.service if provider else None)
    address = provider.address if provider else request.provider
    told = service_hash(None if request.is_x402 else service)
    same = (address.lower(), request.amount.base_units, told) == (
        row.provider.lower(),
        row.amount,
        row.service_hash,
    )
    if not same or request.is_x402 != (row.settle == X402):
        return IdempotencyConflict(
            f"key {key!r} was used on chain for {Usdc.from_base_units(row.amount)} USDC to"
            f" {row.provider}; use another key for another purchase"
        )
    category = request.category or policy.categories.default
    connection.execute(
        update(t.purchases)
        .where(_p.id == row.id)
        .values(
            agent=request.agent,
            idempotency_key=key,
            terms_hash=request.terms_hash(address),
            provider_name=name,
            purpose=request.purpose,
            service=service,
            category=category,
            task=request.task,
            session=request.session,
            updated_at=now,
        )
    )
    bind_key(tx, request.agent, key, row.id, request.terms_hash(address))
    hold = connection.execute(
        select(t.holds).where(t.holds.c.purchase_id == row.id, t.holds.c.kind == "purchase")
    ).one()
    terms = Terms(request.agent, category, name, request.task, request.session, request.is_x402)
    opening = partial(read_opening, connection)
    wanted = tx.rules.charged(terms, hold.placed_at, opening)
    missing = sorted(set(wanted) - set(charges_of(connection, row.id, "purchase")))
    charge_hold(tx, hold.id, missing)
    tx.record(
        now,
        "purchase_adopted",
        row.id,
        agent=request.agent,
        idempotency_key=key,
        terms=request.terms_hash(address),
        provider_name=name,
        purpose=request.purpose,
        service=service,
        category=category,
        task=request.task,
        session=request.session,
    )
    # Whoever asks next in this transaction looks for the key.
    tx.flush()
    return str(row.id)


class Attributed(NamedTuple):
    """A purchase that is known from the chain alone, as it was made for its escrow."""

    id: str
    status: str
    escrow_key: str
    settle: str
    provider: str
    amount: int


def attribute_to_organisation(tx: Tx, escrow_id: str, *, now: int) -> Attributed:
    """Give a funded escrow that no purchase knows one without an agent, and return that.

    Its hold counts against the organisation from the instant at which the escrow was created.
    """
    connection, policy = tx.connection, tx.policy
    (row,) = _ESCROW.rows(connection, {"of": escrow_id})
    escrow = _Escrow(*row)
    name, _ = policy.provider(escrow.provider)
    status = STATUS_OF[EscrowState(escrow.state)]
    # A payment for an HTTP request has its nonce as id and key.
    settle = X402 if escrow.escrow_key == escrow_id else policy.escrow.settle
    purchase_id = "pur_" + secrets.token_hex(10)
    insert_purchase(
        tx,
        {
            **_UNSAID,
            "id": purchase_id,
            "status": status.value,
            "provider": escrow.provider,
            "provider_name": name,
            "amount": escrow.amount,
            "purpose": "known from the chain alone; not attributed yet",
            "escrow_key": escrow.escrow_key,
            "settle": settle,
            "policy_hash": policy.hash,
            "decision": json.dumps({}),
            "created_at": escrow.created_at,
            "updated_at": now,
            "approved_at": escrow.created_at,
            "ended_at_block": escrow.last_block if status in FINAL else None,
            "cancel_wanted": 0,
            "settle_wanted": 0,
        },
    )
    amount, counters = escrow.amount, tx.rules.charged(Terms(), escrow.created_at)
    place_hold(
        tx,
        "purchase",
        Usdc.from_base_units(amount),
        tx.sheet.charge(counters, held=amount, spent=0),
        purchase_id=purchase_id,
        placed_at=escrow.created_at,
    )
    tx.flush()
    _ATTRIBUTE.each(connection, [{"of": escrow_id, "owner": purchase_id}])
    tx.record(
        now,
        "escrow_attributed",
        purchase_id,
        escrow_id=escrow_id,
        escrow_key=escrow.escrow_key,
        provider=escrow.provider,
        provider_name=name,
        amount=escrow.amount,
        settle=settle,
        policy=policy.hash,
        asked_at=escrow.created_at,
        status=status.value,
    )
    return Attributed(
        purchase_id, status.value, escrow.escrow_key, settle, escrow.provider, escrow.amount
    )


def _unattributed(connection: Connection, escrow_key: str) -> Any:
    query = (
        select(t.purchases, _e.service_hash)
        .join(t.escrows, _e.purchase_id == _p.id)
        .where(_p.escrow_key == escrow_key, _p.agent.is_(None))
    )
    return connection.execute(query).first()
