"""Carry out a request: the idempotency key, the decision, the hold and the audit row."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, insert, select

from coordinator.domain.approval_notices import approval_waits
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import IdempotencyConflict
from coordinator.domain.notices import denied
from coordinator.domain.observed import decided, held
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.approval import approval_id_of
from coordinator.domain.purchase.decision import Decision
from coordinator.domain.purchase.lifecycle import X402, Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.offer import Offer
from coordinator.ledger.spend.adoption import adopt
from coordinator.ledger.spend.holds import place_hold
from coordinator.ledger.spend.purchase_rows import bind_key, insert_approval, insert_purchase
from coordinator.ledger.spend.reading import decision_row
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

_p, _k = t.purchases.c, t.idempotency_keys.c
_AUTHORISATION: Final = Prepared(
    insert(t.authorisations), "purchase_id", "wallet", "host", "url", "offer"
)
_BOUND: Final = Prepared(
    select(_k.purchase_id, _k.terms_hash, _p.provider, _p.provider_name)
    .join(t.purchases, _p.id == _k.purchase_id)
    .where(_k.agent == bindparam("agent_"), _k.idempotency_key == bindparam("key_"))
)


@dataclass(frozen=True, slots=True)
class OfferTaken:
    """The server's offer that is taken, for a request to ``url`` (nothing secret is in it)."""

    url: str
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request as it comes to the group commit.

    ``key_is_new`` says that the key was made for this request: nothing can be bound to it.
    ``unless_duplicate`` asks for the purchase that has the same terms, if one was just made.
    ``payer`` is the account that pays; ``taken`` what an HTTP request is paid by.
    """

    request: Request
    key: str
    key_is_new: bool
    unless_duplicate: bool = False
    escrow_key: str
    minimum: Usdc
    payer: str
    now: int
    taken: OfferTaken | None = None
    # Denies for want of funds; otherwise that is told, and nothing is written.
    funds_are_fresh: bool = False


def find_bound(tx: Tx, asked: NewRequest) -> str | IdempotencyConflict | None:
    """Return the id of the purchase that the agent's key is bound to, if it is.

    One that was lost with a database, and whose escrow the chain has, is adopted.
    """
    bound = None if asked.key_is_new else _bound(tx, asked)
    if bound is None and tx.cache.any_unattributed:
        with tx.written():
            bound = adopt(
                tx, asked.request, key=asked.key, escrow_key=asked.escrow_key, now=asked.now
            )
    return bound


def _bound(tx: Tx, asked: NewRequest) -> str | IdempotencyConflict | None:
    """The id of the purchase that the agent's key is bound to."""
    request = asked.request
    row = tx.notes.get((request.agent, asked.key))
    if row is None:
        row = _BOUND.one(tx.connection, {"agent_": request.agent, "key_": asked.key})
    if row is None:
        return None
    purchase_id, terms, provider, provider_name = row
    same_name = request.provider == provider_name
    address = provider if same_name else _address(tx.rules.policy, request.provider)
    if terms != request.terms_hash(address):
        return IdempotencyConflict(
            f"key {asked.key!r} belongs to purchase {purchase_id}, which has other terms;"
            " use another key for another purchase"
        )
    return str(purchase_id)


def _address(policy: Policy, provider: str) -> str:
    _, found = policy.provider(provider)
    return found.address if found else provider


def write_request(tx: Tx, asked: NewRequest, decision: Decision) -> Purchase:
    """Write the purchase as it was decided: its hold, its approval, its audit row, its notices."""
    request, now, rules = asked.request, asked.now, tx.rules
    # In the order of time, so that a purchase's rows lie beside those of its neighbours.
    purchase_id = f"pur_{now:08x}{secrets.token_hex(6)}"
    terms = request.terms_hash(decision.provider)
    stored = decision_row(decision)
    approval: dict[str, Any] | None = None
    shown = decision.provider_name or decision.provider
    if decision.outcome is not Status.DENIED:
        _hold(tx, asked, decision, purchase_id, terms)
    if decision.outcome is Status.AWAITING_APPROVAL:
        approval = {
            "id": approval_id_of(purchase_id),
            "required": decision.required,
            "expires_at": now + rules.policy.approvals.expires_after,
        }
        tx.cache.awaits(approval["expires_at"])
        insert_approval(tx, approval, purchase_id, created_at=now)
        waits = (request.agent, shown, request.amount, decision.required, now)
        tx.notify([approval_waits(approval["id"], *waits)])
    said = {
        "agent": request.agent,
        "idempotency_key": asked.key,
        "provider": decision.provider,
        "provider_name": decision.provider_name,
        "amount": request.amount.base_units,
        "purpose": request.purpose,
        "service": decision.service,
        "category": decision.category,
        "task": request.task,
        "session": request.session,
        "settle": X402 if request.is_x402 else rules.policy.escrow.settle,
    }
    tx.emit(decided("decision", request, decision, now, purchase_id=purchase_id))
    if decision.outcome is not Status.DENIED:
        agent, amount = request.agent, request.amount
        hold = held("purchase", amount=amount, agent=agent, now=now, purchase_id=purchase_id)
        tx.emit(hold)
    reason = decision.reason
    if decision.outcome is Status.DENIED and reason is not None:
        tx.notify([denied(request.agent, shown, request.amount, reason, now)])
    insert_purchase(
        tx,
        said
        | {
            "id": purchase_id,
            "status": decision.outcome.value,
            "terms_hash": terms,
            "escrow_key": asked.escrow_key,
            "policy_hash": rules.policy.hash,
            "decision": canonical_json(stored).decode(),
            "reason_code": reason.code.value if reason else None,
            "reason_message": reason.message if reason else None,
            "created_at": now,
            "updated_at": now,
            "approved_at": now if decision.outcome is Status.APPROVED else None,
            "ended_at_block": None,
            "cancel_wanted": 0,
            "settle_wanted": 0,
        },
    )
    # Not the escrow key: until it is on the chain a stranger could take it there first.
    x402: dict[str, Any] = {}
    if asked.taken is not None:
        kept = decision.outcome is not Status.DENIED
        x402["x402"] = _authorisation(tx, asked, purchase_id, kept=kept)
    policy_hash = rules.policy.hash
    event = f"purchase_{decision.outcome}"
    tx.record(
        now,
        event,
        purchase_id,
        **said,
        terms=terms,
        approval=approval,
        policy=policy_hash,
        **x402,
        **stored,
    )
    return _made(asked, decision, purchase_id, rules.policy, approval["id"] if approval else None)


def _authorisation(tx: Tx, asked: NewRequest, purchase_id: str, *, kept: bool) -> dict[str, Any]:
    """Return what the audit log tells of what is paid for; ``kept``: it may be authorised."""
    taken, host = asked.taken, asked.request.host
    assert taken is not None
    told = {"wallet": asked.payer, "host": host, "url": taken.url}
    if kept:
        offer = canonical_json(taken.offer.as_dict()).decode()
        tx.insert_dependent(_AUTHORISATION, told | {"purchase_id": purchase_id, "offer": offer})
    return told | {"seconds": taken.offer.seconds}


def _hold(tx: Tx, asked: NewRequest, decision: Decision, purchase_id: str, terms: str) -> None:
    request, now = asked.request, asked.now
    bound = (purchase_id, terms, decision.provider, decision.provider_name)
    tx.notes[request.agent, asked.key] = bound
    bind_key(tx, request.agent, asked.key, purchase_id, terms)
    held = request.amount.base_units
    charges = tx.sheet.charge_request(decision.counters, held=held, spent=0)
    place_hold(tx, "purchase", request.amount, charges, purchase_id=purchase_id, placed_at=now)
    tx.treasury_state.promise(request.amount, x402=request.is_x402)
    tx.notify_crossings(decision.limits, request.amount, now)


def _made(
    asked: NewRequest, decision: Decision, purchase_id: str, policy: Policy, approval_id: str | None
) -> Purchase:
    request = asked.request
    return Purchase(
        id=purchase_id,
        status=decision.outcome,
        agent=request.agent,
        provider=decision.provider,
        provider_name=decision.provider_name,
        amount=request.amount,
        purpose=request.purpose,
        service=decision.service,
        category=decision.category,
        task=request.task,
        session=request.session,
        idempotency_key=asked.key,
        escrow_key=asked.escrow_key,
        escrow_id=None,
        approval_id=approval_id,
        created_at=asked.now,
        updated_at=asked.now,
        deadline=None,
        window_ends=None,
        settle=X402 if request.is_x402 else policy.escrow.settle,
        policy_hash=policy.hash,
        reason=decision.reason,
        reasons=decision.reasons,
        limits=decision.limits,
        approvals=(),
        transactions=(),
        paid_in=ZERO,
        provider_received=ZERO,
        platform_fee=ZERO,
        penalty=ZERO,
        refunded=ZERO,
        stranded=None,
        rail_state=None,
    )
