"""The statuses of a purchase, the moves between them, and the actions each allows.

Whoever plans an action, whoever orders it and whoever signs it asks the same rule here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ImpossibleState
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.times import rfc3339

#: How a purchase is settled that pays for one HTTP request; ``after_window`` and so on are escrows.
X402: Final = "x402"


class Status(StrEnum):
    """The states of a purchase; ``MOVES`` has the allowed moves."""

    DENIED = "denied"
    AWAITING_APPROVAL = "awaiting_approval"
    REJECTED = "rejected"
    EXPIRED = "expired"
    APPROVED = "approved"
    CREATED = "created"
    FUNDED = "funded"
    STARTED = "started"
    DELIVERED = "delivered"
    DISPUTED = "disputed"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    FAILED = "failed"


_S = Status


# The only moves there are. A reorg takes a purchase back by folding its events again.
MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    _S.DENIED: frozenset(),
    _S.AWAITING_APPROVAL: frozenset({_S.APPROVED, _S.REJECTED, _S.EXPIRED, _S.CANCELLED}),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    # Back to its approvers when what decides it changed, or a word counts no more.
    _S.APPROVED: frozenset({_S.AWAITING_APPROVAL, _S.CREATED, _S.FUNDED, _S.FAILED, _S.CANCELLED}),
    _S.CREATED: frozenset({_S.FUNDED, _S.FAILED, _S.CANCELLED}),
    _S.FUNDED: frozenset({_S.STARTED, _S.CANCELLED}),
    _S.STARTED: frozenset({_S.DELIVERED, _S.CANCELLED}),
    _S.DELIVERED: frozenset({_S.SETTLED, _S.DISPUTED}),
    _S.DISPUTED: frozenset({_S.SETTLED, _S.CANCELLED}),
    _S.SETTLED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.FAILED: frozenset(),
}


FINAL: Final = frozenset(status for status, moves in MOVES.items() if not moves)


ESCROWED: Final = frozenset({_S.FUNDED, _S.STARTED, _S.DELIVERED, _S.DISPUTED, _S.SETTLED})


OPEN: Final = frozenset(Status) - FINAL


UNFUNDED: Final = frozenset({_S.AWAITING_APPROVAL, _S.APPROVED, _S.CREATED})


def may_follow(before: Status, after: Status, *, settle: str) -> bool:
    """Return whether the chain may move a purchase so; what pays for a request settles at once."""
    paid = settle == X402 and (before, after) == (Status.APPROVED, Status.SETTLED)
    return paid or after in MOVES[before]


def check_move(purchase_id: str, before: Status, after: Status) -> None:
    """Raise ImpossibleState for a move that ``MOVES`` does not have."""
    if after not in MOVES[before]:
        raise ImpossibleState(f"purchase {purchase_id} can't go from {before} to {after}")


STATUS_OF: Final = {
    EscrowState.CREATED: Status.CREATED,
    EscrowState.QUOTED: Status.CREATED,
    EscrowState.FUNDED: Status.FUNDED,
    EscrowState.STARTED: Status.STARTED,
    EscrowState.DELIVERED: Status.DELIVERED,
    EscrowState.DISPUTED: Status.DISPUTED,
    EscrowState.SETTLED: Status.SETTLED,
    EscrowState.CANCELLED: Status.CANCELLED,
}


UNLINKED: Final = frozenset({_S.APPROVED, _S.CREATED})


def may_not_create(
    status: Status,
    *,
    cancel_wanted: bool,
    paused: bool,
    now: int,
    approved_at: int,
    create_within: int,
) -> Reason | None:
    """Say why no escrow may be created for it; None when it may.

    It may for ``create_within`` seconds after it was approved, that second included.
    """
    if status not in UNLINKED:
        return Reason(ReasonCode.NOT_CANCELLABLE, f"it is {status}")
    if cancel_wanted:
        return Reason(ReasonCode.CANCELLED, "cancelled before creation")
    if now > approved_at + create_within:
        return Reason(ReasonCode.EXPIRED, "no escrow could be created in time")
    if paused:
        return Reason(ReasonCode.PAUSED, "spending is paused")
    return None


def may_not_link(status: Status, *, cancel_wanted: bool, paused: bool) -> Reason | None:
    """Say why its escrow may not be funded; None when it may."""
    if status not in UNLINKED:
        return Reason(ReasonCode.NOT_CANCELLABLE, f"it is {status}")
    if cancel_wanted:
        return Reason(ReasonCode.CANCELLED, "cancelled before it was funded")
    if paused:
        return Reason(ReasonCode.PAUSED, "spending was paused before it was funded")
    return None


def may_not_cancel(status: Status, *, in_flight: bool) -> Reason | None:
    """Say why nobody can cancel it at this moment; None when somebody can."""
    if status in UNFUNDED and not in_flight:
        return None
    if status in UNFUNDED:
        text = (
            "its transactions are already sent; if it can't be funded it is cancelled automatically"
        )
    elif status in FINAL:
        text = f"it is already {status}"
    else:
        text = f"it is {status}: only the provider, or its deadline passing, can return the USDC"
    return Reason(ReasonCode.NOT_CANCELLABLE, text)


def authorised_until(valid_before: int) -> Reason:
    """Say why a payment for an HTTP request can't be cancelled: it is signed."""
    text = (
        f"it is signed: whoever has the authorisation may take the USDC before"
        f" {rfc3339(valid_before)}; if nobody does, its hold ends by itself"
    )
    return Reason(ReasonCode.NOT_CANCELLABLE, text)


def may_not_settle(status: Status) -> Reason | None:
    """Say why the provider can't be paid at this moment; None when it can."""
    if status is Status.DELIVERED:
        return None
    text = f"only a delivered purchase can be settled; it is {status}"
    return Reason(ReasonCode.NOT_SETTLEABLE, text)


def is_settled_unasked(settle: str, *, unasked: bool, window_over: bool) -> bool:
    """Return whether a delivered purchase is paid without an order.

    ``unasked`` tells that the policy settles it on delivery, ``window_over`` that nobody can
    contest it any more.
    """
    return unasked or (window_over and settle != "manual")


def may_not_dispute(status: Status, *, now: int, window_ends: int | None) -> Reason | None:
    """Say why it can't be contested at ``now``; None when it can.

    It can up to and including the second in which its window ends, as the kernel has it.
    """
    if status is not Status.DELIVERED:
        text = f"only a delivered purchase can be disputed; it is {status}"
        return Reason(ReasonCode.NOT_SETTLEABLE, text)
    if window_ends is not None and now > window_ends:
        return Reason(ReasonCode.DISPUTE_WINDOW_CLOSED, "its dispute window is over")
    return None


def may_reclaim(state: EscrowState, *, chain_time: int, deadline: int) -> bool:
    """Return whether the USDC can be taken back: the provider has not started by the deadline."""
    return state is EscrowState.FUNDED and chain_time >= deadline
