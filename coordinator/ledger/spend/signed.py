"""Calls that were signed for a purchase, read from the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.tx.transaction import Tx

SIGNED: Final = tuple(f"{kind}_signed" for kind in StepKind)


def signed_for(tx: Tx, purchase_id: str) -> Mapping[int, StepKind]:
    """By nonce, the steps whose bytes were signed: nodes may have them until the nonce is used."""
    rows = tx.proven(purchase_id, events=SIGNED, skip=True)
    return {row.body["nonce"]: StepKind(row.event.removesuffix("_signed")) for row in rows}


def require_unsigned(tx: Tx, purchase_id: str) -> None:
    """LedgerTampered when something was signed for a purchase that has no steps any more."""
    signed = signed_for(tx, purchase_id)
    if signed:
        raise LedgerTampered(
            f"purchase {purchase_id}: the audit log tells that nonces {sorted(signed)} were signed"
            " for it, and its rows say that nothing was"
        )
