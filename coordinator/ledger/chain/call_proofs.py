"""Compare a call that takes USDC, and its row, with what the audit log tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from coordinator.domain.chain.steps import Call, PaymentTerms, StepKind
from coordinator.domain.usdc import Usdc
from coordinator.ledger.proofs.audit_fold import LoggedOrder, LoggedPurchase
from coordinator.ledger.proofs.row_proofs import order_differences, purchase_differences

SPENDING: Final = frozenset({StepKind.CREATE, StepKind.LINK})
OF_ESCROW: Final = frozenset({StepKind.SETTLE, StepKind.DISPUTE})


def call_differences(call: Call, row: Any, past: LoggedPurchase) -> Iterator[str]:
    yield from purchase_differences(row, past)
    if call.kind in OF_ESCROW:
        yield from _another_escrow(call, past)
    if call.kind is StepKind.DISPUTE:
        bond = past.bond[0] if past.bond is not None else None
        if call.usdc is None or call.usdc.base_units != bond:
            yield f"its bond is {call.usdc}; the audit log says {bond} base units"
    elif call.kind in SPENDING:
        yield from not_decided(call, past)


def _another_escrow(call: Call, past: LoggedPurchase) -> Iterator[str]:
    """Name an escrow that the chain has under another key than the purchase's."""
    if call.terms is not None and call.terms.escrow_key != past.escrow_key:
        yield (
            f"its escrow has the escrow_key {call.terms.escrow_key};"
            f" the audit log says {past.escrow_key}"
        )


def order_call_differences(call: Call, row: Any, past: LoggedOrder) -> Iterator[str]:
    yield from order_differences(row, past)
    if call.kind.value != past.kind:
        yield f"its call is a {call.kind}; the audit log says {past.kind}"
    made_from = PaymentTerms(past.body["recipient"], Usdc.from_base_units(past.body["amount"]))
    if call.terms is not None and call.terms != made_from:
        yield f"its {call.kind} was made from {call.terms}; the audit log says {made_from}"
    if not past.agreed:
        yield "the audit log has fewer approvals than it needs"
    if past.signed:
        yield "the audit log says that it was signed before"


def not_decided(call: Call, past: LoggedPurchase) -> Iterator[str]:
    if past.x402 is not None:
        yield "it pays for an HTTP request, and no escrow"
    made_from = PaymentTerms(
        past.provider,
        Usdc.from_base_units(past.amount),
        past.words.get("service"),
        past.escrow_key,
    )
    if call.terms is not None and call.terms != made_from:
        yield f"its {call.kind} was made from {call.terms}; the audit log says {made_from}"
    yield from too_few(past)


def too_few(past: LoggedPurchase) -> Iterator[str]:
    """Say how many approvals the audit log has, where it has fewer than were required."""
    if past.approval is not None:
        agreed = [who for who, said in past.decisions.items() if said["decision"] == "approved"]
        if len(set(agreed) - {past.agent}) < past.approval["required"]:
            yield f"the audit log has {len(agreed)} of {past.approval['required']} approvals"
