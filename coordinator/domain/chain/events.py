"""Chain events in the project's own words, in canonical order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.usdc import Usdc


class EscrowState(StrEnum):
    """The states of an escrow on its rail."""

    CREATED = "created"
    QUOTED = "quoted"
    FUNDED = "funded"
    STARTED = "started"
    DELIVERED = "delivered"
    DISPUTED = "disputed"
    SETTLED = "settled"
    CANCELLED = "cancelled"


EMPTY: Final = frozenset({EscrowState.CREATED, EscrowState.QUOTED})
OVER: Final = frozenset({EscrowState.SETTLED, EscrowState.CANCELLED})


class EventKind(StrEnum):
    """The events that the coordinator follows."""

    ESCROW_CREATED = "escrow_created"
    ESCROW_FUNDED = "escrow_funded"
    ESCROW_MOVED = "escrow_moved"
    PAYOUT = "payout"
    AUTHORISATION_USED = "authorisation_used"
    TRANSFER = "transfer"
    ACCOUNT_OPENED = "account_opened"
    ACCOUNT_CLOSED = "account_closed"
    ROLE_USED = "role_used"
    TREASURY_CHANGED = "treasury_changed"
    APPROVAL_LEFT = "approval_left"


WATCHED: Final = frozenset(
    {EventKind.ROLE_USED, EventKind.TREASURY_CHANGED, EventKind.APPROVAL_LEFT}
)
"""Acts on the treasury itself, where it is a Safe: no escrow and no USDC moves by them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A sealed block: number, hash, unix seconds."""

    number: int
    hash: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEvent:
    """One log; only the fields of its kind are set.

    ``escrow_id`` is the rail's id, ``escrow_key`` the vault's. ``window_ends`` (unix seconds) is
    read from the rail when an escrow is delivered. Unique on (block hash, log index). No log tells
    that an account of ours opened or closed: ``recipient`` has ``amount`` after the block.
    What is watched is ``said`` in words; ``foreign`` is what neither owners nor we do who keep to
    the limits.
    """

    kind: EventKind
    block_number: int
    block_hash: str
    log_index: int
    tx_hash: str
    at: int
    escrow_id: str | None = None
    escrow_key: str | None = None
    requester: str | None = None
    provider: str | None = None
    sender: str | None = None
    recipient: str | None = None
    amount: Usdc | None = None
    service_hash: str | None = None
    deadline: int | None = None
    state: EscrowState | None = None
    window_ends: int | None = None
    name: str | None = None
    said: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class EventBatch:
    """All followed events of the blocks (after, to], in order, with the hash of ``to``.

    ``accounts`` are those that were followed; None: those of the books.
    """

    after: int
    after_hash: str
    to: Block
    events: tuple[ChainEvent, ...]
    accounts: tuple[OwnAccount, ...] | None = None
