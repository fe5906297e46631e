"""The statuses of a purchase, and the one table of moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ImpossibleState


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
    _S.APPROVED: frozenset({_S.CREATED, _S.FUNDED, _S.FAILED, _S.CANCELLED}),
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


def check_move(purchase_id: str, before: Status, after: Status) -> None:
    """Refuse, as an impossible state, a move that ``MOVES`` does not have."""
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
