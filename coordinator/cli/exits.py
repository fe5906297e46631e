"""Exit codes: what a script learns from a command without reading its output."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from coordinator.domain.errors import (
    ConfigurationError,
    CoordinatorError,
    IdempotencyConflict,
    InvalidRequest,
)

if TYPE_CHECKING:
    from coordinator.domain.purchase.decision import Decision
    from coordinator.domain.purchase.purchase import Purchase
    from coordinator.domain.reasons import Reason


class ExitCode(IntEnum):
    """The codes are part of the public face."""

    OK = 0
    FAILED = 1
    INVALID = 2
    DENIED = 3
    AWAITING_APPROVAL = 4
    CHAIN = 5
    DISCREPANCIES = 6


_CHAIN_FAULTS: Final = frozenset(
    {"chain_unavailable", "chain_refused", "reverted", "outcome_unknown"}
)
_CHAIN_REASONS: Final = frozenset(
    {
        "insufficient_gas",
        "insufficient_usdc",
        "chain_unavailable",
        "reverted",
        "outcome_unknown",
        "stranded",
    }
)
# Refusals of a person's order that are neither the policy's nor the chain's.
_TOO_LATE: Final = frozenset(
    {
        # Others decided it before.
        "approval_not_found",
        "approval_expired",
        "expired",
        "rejected",
        "cancelled",
        "not_cancellable",
        "not_settleable",
        "dispute_window_closed",
    }
)
_GOING_ON: Final = frozenset({"funded", "started", "delivered", "disputed", "settled"})
_REACHED: Final = {
    "funded": _GOING_ON,
    "delivered": frozenset({"delivered", "disputed", "settled"}),
    "final": frozenset({"settled"}),
}


def of_fault(fault: CoordinatorError) -> ExitCode:
    """The code of something raised."""
    if fault.code in _CHAIN_FAULTS:
        return ExitCode.CHAIN
    if isinstance(fault, (InvalidRequest, IdempotencyConflict, ConfigurationError)):
        return ExitCode.INVALID
    return ExitCode.FAILED


def of_refusal(reason: Reason | None) -> ExitCode:
    """The code of an order that was not carried out."""
    code = reason.code.value if reason else ""
    if code in _CHAIN_REASONS:
        return ExitCode.CHAIN
    if code == "more_approvals_required":
        return ExitCode.AWAITING_APPROVAL
    return ExitCode.FAILED if code in _TOO_LATE else ExitCode.DENIED


def of_purchase(purchase: Purchase, *, until: str | None = "funded") -> ExitCode:
    """The code of a purchase that was to get ``until`` a point; None: to be decided only.

    What the treasury's own USDC or gas refuses is the chain's, whether it was known when it was
    asked or only when it was to be signed.
    """
    status = purchase.status.value
    code = purchase.reason.code.value if purchase.reason else ""
    if status == "awaiting_approval":
        return ExitCode.AWAITING_APPROVAL
    if status == "denied":
        return ExitCode.CHAIN if code in _CHAIN_REASONS else ExitCode.DENIED
    if until is None and not purchase.final:
        return ExitCode.OK
    if status in _REACHED[until or "funded"]:
        return ExitCode.OK
    if not purchase.final:
        return ExitCode.CHAIN
    return ExitCode.CHAIN if code in _CHAIN_REASONS else ExitCode.FAILED


def of_decision(decision: Decision) -> ExitCode:
    """The code that a purchase with this decision would have at once."""
    if decision.outcome.value == "awaiting_approval":
        return ExitCode.AWAITING_APPROVAL
    if decision.outcome.value != "denied":
        return ExitCode.OK
    code = decision.reason.code.value if decision.reason else ""
    return ExitCode.CHAIN if code in _CHAIN_REASONS else ExitCode.DENIED
