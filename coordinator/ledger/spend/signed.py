"""Calls that were signed for a purchase, read from the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.tx.transaction import Tx

SIGNED: Final = tuple(f"{kind}_signed" for kind in StepKind)
#: The payment for an HTTP request was signed: whoever has it can take the USDC.
AUTHORISED: Final = "x402_signed"
_ENDED: Final = tuple(f"{kind}_{end}" for kind in StepKind for end in ("mined", "reverted"))


def signed_for(tx: Tx, purchase_id: str) -> Mapping[int, StepKind]:
    """By nonce, the steps whose bytes were signed: nodes may have them until the nonce is used."""
    rows = tx.proven(purchase_id, events=SIGNED, skip=True)
    return {row.body["nonce"]: StepKind(row.event.removesuffix("_signed")) for row in rows}


def may_be_mined(tx: Tx, purchase_id: str, signer: str, used: int) -> bool:
    """Whether bytes that were signed for a purchase, by any account of ours, may be mined yet.

    Of ``signer`` those whose nonce is not below ``used``, the chain's count; of another account
    those whose step has not ended by the log.
    """
    rows = tx.proven(purchase_id, events=SIGNED, skip=True)
    own = [row.body["nonce"] for row in rows if row.body.get("signer", signer) == signer]
    others = {row.body["tx_hash"] for row in rows if row.body.get("signer", signer) != signer}
    if others:
        ended = tx.proven(purchase_id, events=_ENDED, skip=True)
        others -= {row.body.get("tx_hash") for row in ended}
    return bool(others) or any(nonce >= used for nonce in own)


def require_unsigned(tx: Tx, purchase_id: str) -> None:
    """LedgerTampered when something was signed for a purchase that has no steps any more."""
    if tx.proven(purchase_id, events=(AUTHORISED,), skip=True):
        raise LedgerTampered(
            f"purchase {purchase_id}: the audit log tells that its authorisation was signed, and"
            " its rows say that nothing was"
        )
    signed = signed_for(tx, purchase_id)
    if signed:
        raise LedgerTampered(
            f"purchase {purchase_id}: the audit log tells that nonces {sorted(signed)} were signed"
            " for it, and its rows say that nothing was"
        )
