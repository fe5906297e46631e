"""Restore purchases of a lost database so that none is created again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from sqlalchemy import insert, select

from coordinator.domain.limits.rules import Terms
from coordinator.domain.purchase.lifecycle import X402, Status
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger.limits.openings import read_opening
from coordinator.ledger.proofs.audit_fold import LoggedPurchase
from coordinator.ledger.spend.holds import place_hold
from coordinator.ledger.spend.purchase_rows import bind_key, insert_approval, insert_purchase
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx

_LOST: Final = Reason(
    ReasonCode.EXPIRED,
    "the database was lost before the chain had it; nothing was paid: ask again with another key",
)
_UNKNOWN: Final = "known from the chain alone; not attributed yet"


def put_purchase(tx: Tx, past: LoggedPurchase, *, final_number: int, now: int) -> None:
    """Insert it with its key, approvals, hold and charges.

    One that ended unfunded is as it was and holds nothing. A payment that was signed and not seen
    on the chain can be taken yet, and stays open. Any other has failed (expired, when it waited for
    people) and holds its amount until the books have come to ``final_number``.
    """
    before, over = past.status, past.over
    open_ = past.authorised and past.x402 is not None and before is Status.APPROVED
    if not (over or open_):
        waited = before is Status.AWAITING_APPROVAL
        past.status = Status.EXPIRED if waited else Status.FAILED
        past.reason_code, past.reason_message = _LOST.code.value, _LOST.message
        past.updated_at = now
    _insert(tx, past, None if over or open_ else final_number)
    if past.x402 is not None and before is not Status.DENIED:
        _put_authorisation(tx, past, past.x402)
    if past.agent is not None and before is not Status.DENIED:
        assert past.idempotency_key is not None and past.terms is not None
        bind_key(tx, past.agent, past.idempotency_key, past.id, past.terms)
    _put_approvals(tx, past)
    if before is not Status.DENIED:
        _put_holds(tx, past, ended=over)
    if before is not past.status:
        tx.record(
            now,
            f"purchase_{past.status}",
            past.id,
            before=before.value,
            code=_LOST.code.value,
            why=_LOST.message,
        )


def was_put_back(tx: Tx, purchase_id: str) -> bool:
    """Whether the purchase comes from the export of a lost database."""
    tx.flush()
    c = t.audit.c
    imported = select(c.seq).where(c.subject == "audit", c.event == "audit_imported")
    asked = select(c.seq).where(c.subject == purchase_id).order_by(c.seq).limit(1)
    newest = tx.connection.execute(imported.order_by(c.seq.desc()).limit(1)).scalar()
    first = tx.connection.execute(asked).scalar()
    return newest is not None and first is not None and first < newest


def _insert(tx: Tx, past: LoggedPurchase, ended_at_block: int | None) -> None:
    words = past.words
    insert_purchase(
        tx,
        {
            "id": past.id,
            "status": past.status.value,
            "agent": past.agent,
            "idempotency_key": past.idempotency_key,
            "terms_hash": past.terms,
            "provider": past.provider,
            "provider_name": words.get("provider_name"),
            "amount": past.amount,
            "purpose": words.get("purpose") or _UNKNOWN,
            "service": words.get("service"),
            "category": words.get("category"),
            "task": words.get("task"),
            "session": words.get("session"),
            "escrow_key": past.escrow_key,
            "settle": past.settle,
            "policy_hash": past.policy,
            "decision": json.dumps(past.decision),
            "reason_code": past.reason_code,
            "reason_message": past.reason_message,
            "created_at": past.asked_at,
            "updated_at": past.updated_at,
            "approved_at": past.approved_at,
            "ended_at_block": ended_at_block,
            "cancel_wanted": int(past.cancel_wanted),
            "settle_wanted": int(past.settle_wanted),
        },
    )


def _put_authorisation(tx: Tx, past: LoggedPurchase, x402: Mapping[str, Any]) -> None:
    """Insert what was asked for, without offer and signature: only the lost database had them."""
    told = {name: x402[name] for name in ("wallet", "host", "url")}
    made = {"purchase_id": past.id, "offer": "{}", "valid_before": past.authorised_until or None}
    tx.flush()
    tx.connection.execute(insert(t.authorisations).values(**made, **told))


def _put_approvals(tx: Tx, past: LoggedPurchase) -> None:
    if past.approval is None:
        return
    insert_approval(tx, past.approval, past.id, created_at=past.asked_at)
    tx.flush()
    for approver, said in past.decisions.items():
        tx.connection.execute(
            insert(t.approval_decisions).values(
                approval_id=past.approval["id"],
                approver=approver,
                decision=said["decision"],
                reason=said["reason"],
                at=said["at"],
                host=said["host"],
                user=said["user"],
            )
        )


def _put_holds(tx: Tx, past: LoggedPurchase, *, ended: bool) -> None:
    terms = Terms(
        past.agent,
        past.words.get("category"),
        past.words.get("provider_name"),
        past.words.get("task"),
        past.words.get("session"),
        past.settle == X402,
    )
    if past.agent is None:
        terms = Terms()
    openings, asked = partial(read_opening, tx.connection), past.approval is not None
    counters = tx.rules.charged(terms, past.placed_at, openings, asked=asked)
    place_hold(
        tx,
        "purchase",
        Usdc.from_base_units(past.amount),
        tx.sheet.charge(counters, held=0 if ended else past.amount, spent=0),
        purchase_id=past.id,
        placed_at=past.placed_at,
        status="voided" if ended else "held",
        ended_at=past.updated_at if ended else None,
    )
    if past.bond is not None and not ended:
        bond, held_at = past.bond
        counters = tx.rules.charged(Terms(), held_at)
        place_hold(
            tx,
            "bond",
            Usdc.from_base_units(bond),
            tx.sheet.charge(counters, held=bond, spent=0),
            purchase_id=past.id,
            placed_at=held_at,
        )
