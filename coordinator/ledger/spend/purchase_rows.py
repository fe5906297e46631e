"""The rows that a purchase begins with, whoever asked for it: itself, its key, its approval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import insert

from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared
from coordinator.ledger.tx.transaction import Tx

_PURCHASE: Final = Prepared(
    insert(t.purchases),
    *("id", "status", "agent", "idempotency_key", "terms_hash", "provider", "provider_name"),
    *("amount", "purpose", "service", "category", "task", "session", "escrow_key", "settle"),
    *("policy_hash", "decision", "reason_code", "reason_message", "created_at", "updated_at"),
    *("approved_at", "ended_at_block", "cancel_wanted", "settle_wanted"),
)
_KEY: Final = Prepared(
    insert(t.idempotency_keys), "agent", "idempotency_key", "purchase_id", "terms_hash"
)
_APPROVAL: Final = Prepared(
    insert(t.approvals), "id", "purchase_id", "required", "created_at", "expires_at"
)


def insert_purchase(tx: Tx, row: Mapping[str, Any]) -> None:
    """Write a purchase; ``row`` names every column of it."""
    tx.insert(_PURCHASE, row)


def bind_key(tx: Tx, agent: str, key: str, purchase_id: str, terms_hash: str) -> None:
    """Bind the agent's key to the purchase, for ever."""
    tx.insert_dependent(
        _KEY,
        {
            "agent": agent,
            "idempotency_key": key,
            "purchase_id": purchase_id,
            "terms_hash": terms_hash,
        },
    )


def insert_approval(
    tx: Tx, approval: Mapping[str, Any], purchase_id: str, *, created_at: int
) -> None:
    """Let the purchase wait for people; ``approval`` has its id, number and end."""
    row = {**approval, "purchase_id": purchase_id, "created_at": created_at}
    tx.insert_dependent(_APPROVAL, row)
