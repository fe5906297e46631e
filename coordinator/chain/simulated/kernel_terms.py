"""The ACTP kernel's states, constants and records."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from coordinator.chain.simulated.codec import WORD
from coordinator.chain.simulated.contract import NOBODY, Reverted, require

MAX_BPS: Final = 10_000
MIN_FEE: Final = 50_000
MIN_TRANSACTION_AMOUNT: Final = 50_000
MAX_TRANSACTION_AMOUNT: Final = 1_000_000_000 * 10**6
MAX_DEADLINE: Final = 365 * 86_400
MIN_DISPUTE_WINDOW: Final = 3_600
MAX_DISPUTE_WINDOW: Final = 30 * 86_400
DEFAULT_DISPUTE_WINDOW: Final = 2 * 86_400
MIN_DISPUTE_BOND: Final = 10**6
MAX_MEDIATOR_FEE_BPS: Final = 1_000
ARCHIVE_ALLOCATION_BPS: Final = 10
PLATFORM_FEE_BPS: Final = 100
REQUESTER_PENALTY_BPS: Final = 500
DISPUTE_BOND_BPS: Final = 500
NO_BYTES: Final = bytes(WORD)


class State(IntEnum):
    INITIATED = 0
    QUOTED = 1
    COMMITTED = 2
    IN_PROGRESS = 3
    DELIVERED = 4
    SETTLED = 5
    DISPUTED = 6
    CANCELLED = 7


# COMMITTED is missing on purpose: only linkEscrow leads there.
REACHABLE: Final = {
    State.INITIATED: (State.QUOTED, State.CANCELLED),
    State.QUOTED: (State.CANCELLED,),
    State.COMMITTED: (State.IN_PROGRESS, State.CANCELLED),
    State.IN_PROGRESS: (State.DELIVERED, State.CANCELLED),
    State.DELIVERED: (State.SETTLED, State.DISPUTED),
    State.DISPUTED: (State.SETTLED, State.CANCELLED),
    State.SETTLED: (),
    State.CANCELLED: (),
}


class Txn(NamedTuple):
    """An ACTP transaction, in the order of ``getTransaction``."""

    transaction_id: bytes
    requester: str
    provider: str
    state: int
    amount: int
    created_at: int
    updated_at: int
    deadline: int
    service_hash: bytes
    escrow_contract: str = NOBODY
    escrow_id: bytes = NO_BYTES
    attestation_uid: bytes = NO_BYTES
    dispute_window: int = 0
    metadata: bytes = NO_BYTES
    fee_bps: int = PLATFORM_FEE_BPS
    penalty_bps: int = REQUESTER_PENALTY_BPS
    bond_bps: int = DISPUTE_BOND_BPS
    agent_id: int = 0
    requester_agent_id: int = 0
    dispute_initiator: str = NOBODY
    dispute_bond: int = 0


class Resolution(NamedTuple):
    """The admin's split of a disputed escrow."""

    requester_amount: int = 0
    provider_amount: int = 0
    mediator: str = NOBODY
    mediator_amount: int = 0
    provider_at_fault: bool = True

    @property
    def total(self) -> int | None:
        """The sum; None when a part is beyond every amount there can be."""
        if max(self.requester_amount, self.provider_amount) > MAX_TRANSACTION_AMOUNT:
            return None
        return self.requester_amount + self.provider_amount + self.mediator_amount


def share(amount: int, bps: int) -> int:
    return amount * bps // MAX_BPS


def check_dispute_window(window: int) -> None:
    require(window >= MIN_DISPUTE_WINDOW, "Dispute window too short")
    require(window <= MAX_DISPUTE_WINDOW, "Dispute window too long")


def read_resolution(proof: bytes) -> Resolution:
    """The split in 2 to 5 words; 3 and 5 end with the fault, without it the provider has it."""
    words = [int.from_bytes(proof[i : i + WORD], "big") for i in range(0, len(proof), WORD)]
    require(len(proof) % WORD == 0 and 2 <= len(words) <= 5, "Invalid resolution proof")
    found = Resolution(words[0], words[1])
    if len(words) >= 4:
        if words[2] >> 160:
            raise Reverted
        found = found._replace(mediator=f"0x{words[2]:040x}", mediator_amount=words[3])
    if len(words) % 2:
        if words[-1] > 1:
            raise Reverted
        found = found._replace(provider_at_fault=bool(words[-1]))
    return found
