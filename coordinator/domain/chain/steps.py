"""Steps, each one call to make on chain, and their attempts, the signed transactions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.usdc import Usdc


class StepKind(StrEnum):
    """The kinds of steps.

    ``batch`` makes purchases of a Safe in one transaction, whole or not at all; its steps are the
    creates and links within. ``fill`` is a self-send of zero that closes a hole in the nonces,
    ``sweep`` moves USDC of a former account of ours to the present one, ``top_up`` some to the
    wallet for HTTP requests.
    """

    APPROVE = "approve"
    CREATE = "create"
    LINK = "link"
    CANCEL = "cancel"
    SETTLE = "settle"
    RECLAIM = "reclaim"
    DISPUTE = "dispute"
    WITHDRAW = "withdraw"
    MINT = "mint"
    SWEEP = "sweep"
    TOP_UP = "top_up"
    BATCH = "batch"
    FILL = "fill"


class StepStatus(StrEnum):
    """A step's status by its evidence: only the chain ends a step.

    allocated: owns a nonce, nothing signed · signed: bytes stored, so it may be mined at any
    time · mined / reverted: receipt in a sealed block · displaced: another transaction was
    mined at its nonce, so none of its attempts ever can be.
    """

    ALLOCATED = "allocated"
    SIGNED = "signed"
    MINED = "mined"
    REVERTED = "reverted"
    DISPLACED = "displaced"


# What the kernel says of an escrow id that it has not given.
MISSED = "Tx missing"
# What is told of a revert whose reason nobody gives.
UNEXPLAINED = "the contract refused it"

IN_FLIGHT = frozenset({StepStatus.ALLOCATED, StepStatus.SIGNED})


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """The terms a call was made from; a withdrawal's payee is its recipient."""

    payee: str
    amount: Usdc
    service: str | None = None
    escrow_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A transaction to be made: what a step stores before it is signed.

    ``usdc`` is what the step takes from the treasury and from the allowance (link, dispute), the
    allowance that it sets (approve), or what its members take (batch). ``escrow_id`` is the escrow
    it means, predicted for a create. ``window_over`` tells of a settle that by the chain everybody
    may settle it and nobody dispute it, ``terms`` of what takes USDC what it was made from, and
    ``alone`` that it shares a transaction with no other purchase; these three are not stored.
    ``members`` are the calls that a batch makes, in order.
    """

    kind: StepKind
    to: str
    data: str
    gas_limit: int
    purchase_id: str | None = None
    escrow_id: str | None = None
    usdc: Usdc | None = None
    reference: str | None = None
    window_over: bool = False
    terms: PaymentTerms | None = None
    alone: bool = False
    members: tuple[Call, ...] = ()

    @property
    def parts(self) -> tuple[Call, ...]:
        """The calls that it makes: its members, or itself."""
        return self.members or (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction: its hash and raw bytes, kept for ever.

    ``fills`` tells that it is a self-send of zero which takes the nonce of a step given up.
    """

    hash: str
    raw: str
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    fills: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receipt of a mined transaction; fees in wei, L1 fee 0 where there is none."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    l1_fee_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step with its evidence. Unique on (chain, signer, nonce), but for the members of a batch:
    they share its nonce, attempts and receipt.

    ``given_up`` tells that its own bytes are never sent again: a self-send of zero takes its nonce.
    A node may still have the old bytes, so it stays in flight until one of them is mined.
    """

    id: int
    nonce: int
    call: Call
    status: StepStatus
    attempts: tuple[Attempt, ...] = ()
    receipt: Receipt | None = None
    revert_reason: str | None = None
    created_at: int = 0
    given_up: bool = False
    signer: str | None = None

    @property
    def to_send(self) -> Attempt | None:
        """The attempt with the highest fee that may be sent; for a step given up, only fills."""
        last = [a for a in self.attempts if a.fills or not self.given_up]
        return last[-1] if last else None

    @property
    def kind(self) -> StepKind:
        return self.call.kind

    @property
    def was_missed(self) -> bool:
        """Whether a purchase failed only since its escrow got another id than was predicted."""
        missed = (self.revert_reason or "").startswith(MISSED)
        return self.status is StepStatus.DISPLACED and missed

    @property
    def failed_together(self) -> bool:
        """Whether it reverted in a batch whose every purchase may have been the reason."""
        told = self.revert_reason is not None and not self.was_missed
        return self.status is StepStatus.DISPLACED and told

    @property
    def in_flight(self) -> bool:
        """Whether it could still be mined."""
        return self.status in IN_FLIGHT
