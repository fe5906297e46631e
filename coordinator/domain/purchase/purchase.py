"""A purchase as callers see it, with its approvals and transactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coordinator.domain.limits.limits import LimitState
from coordinator.domain.purchase.blocker import Blocker
from coordinator.domain.purchase.lifecycle import ESCROWED, FINAL, Status
from coordinator.domain.reasons import Reason
from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import ZERO, Usdc


@dataclass(frozen=True, slots=True)
class ApprovalDecision(Shown):
    """One person's word on one purchase; ``decision`` is ``approved`` or ``rejected``."""

    approver: str
    decision: str
    reason: str | None
    at: int
    host: str
    user: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "approver": self.approver,
            "decision": self.decision,
            "reason": self.reason,
            "at": rfc3339(self.at),
        }


@dataclass(frozen=True, slots=True)
class PurchaseTransaction(Shown):
    """One signed transaction of a purchase; ``status`` is the step's word for its evidence."""

    step: str
    hash: str
    block: int | None
    gas_used: int | None
    gas_wei: int
    status: str
    url: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "hash": self.hash,
            "block": self.block,
            "gas_used": self.gas_used,
            "status": self.status,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class RequestPayment(Shown):
    """The payment for one HTTP request: from ``wallet``, for ``url`` at ``host``.

    It was signed at ``signed_at``, and whoever has it can take the USDC before ``valid_before``;
    None until it is signed. Times are unix seconds, UTC.
    """

    wallet: str
    host: str
    url: str
    valid_before: int | None = None
    signed_at: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "wallet": self.wallet,
            "host": self.host,
            "url": self.url,
            "valid_before": rfc3339(self.valid_before),
            "signed_at": rfc3339(self.signed_at),
        }


@dataclass(frozen=True, slots=True)
class Purchase(Shown):
    """A purchase as the ledger knows it at one moment; times are unix seconds, UTC.

    ``spent`` is what left the treasury for it and did not come back. ``escrow_id`` is the rail's
    id of the escrow that holds its USDC. ``limits`` are those that its last decision touched,
    before its own hold.
    """

    id: str
    status: Status
    agent: str | None
    provider: str
    provider_name: str | None
    amount: Usdc
    purpose: str
    service: str | None
    category: str | None
    task: str | None
    session: str | None
    idempotency_key: str | None
    escrow_key: str
    escrow_id: str | None
    approval_id: str | None
    created_at: int
    updated_at: int
    deadline: int | None
    window_ends: int | None
    settle: str
    policy_hash: str
    reason: Reason | None
    reasons: tuple[Reason, ...] = ()
    limits: tuple[LimitState, ...] = ()
    approvals: tuple[ApprovalDecision, ...] = ()
    transactions: tuple[PurchaseTransaction, ...] = ()
    paid_in: Usdc = ZERO
    provider_received: Usdc = ZERO
    platform_fee: Usdc = ZERO
    penalty: Usdc = ZERO
    refunded: Usdc = ZERO
    stranded: Reason | None = None
    rail_state: str | None = field(default=None)
    #: Where it pays for an HTTP request; None for an escrow.
    x402: RequestPayment | None = field(default=None)
    #: What kept it from going on when a wait for it ended; None where nothing did.
    blocker: Blocker | None = field(default=None)

    @property
    def ok(self) -> bool:
        """Whether the USDC is in escrow or has been paid to the provider."""
        return self.status in ESCROWED

    @property
    def denied(self) -> bool:
        return self.status is Status.DENIED

    @property
    def needs_approval(self) -> bool:
        return self.status is Status.AWAITING_APPROVAL

    @property
    def final(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.status in FINAL

    @property
    def spent(self) -> Usdc:
        return self.paid_in - self.refunded if self.final else ZERO

    @property
    def gas_wei(self) -> int:
        return sum(transaction.gas_wei for transaction in self.transactions)

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON; amounts are strings, times RFC 3339 in UTC."""
        return {
            "purchase_id": self.id,
            "status": self.status.value,
            "agent": self.agent,
            "provider": self.provider,
            "provider_name": self.provider_name,
            "amount": str(self.amount),
            "purpose": self.purpose,
            "service": self.service,
            "category": self.category,
            "task": self.task,
            "session": self.session,
            "idempotency_key": self.idempotency_key,
            "escrow_id": self.escrow_id,
            "approval_id": self.approval_id,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "deadline": rfc3339(self.deadline),
            "dispute_window_ends": rfc3339(self.window_ends),
            "settle": self.settle,
            "policy_hash": self.policy_hash,
            "approvals": [decision.as_dict() for decision in self.approvals],
            "reason": self.reason.as_dict() if self.reason else None,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "limits": [state.as_dict() for state in self.limits],
            "spent": str(self.spent),
            "provider_received": str(self.provider_received),
            "platform_fee": str(self.platform_fee),
            "penalty": str(self.penalty),
            "refunded": str(self.refunded),
            "gas_wei": self.gas_wei,
            "transactions": [transaction.as_dict() for transaction in self.transactions],
            "stranded": self.stranded.as_dict() if self.stranded else None,
            "x402": self.x402.as_dict() if self.x402 else None,
            "blocker": self.blocker.as_dict() if self.blocker else None,
        }


@dataclass(frozen=True, slots=True)
class Answer(Shown):
    """The answer to an order about a purchase.

    ``done`` tells whether it was carried out (or now will be, for what the chain must do);
    if not, ``reason`` says why and nothing changed.
    """

    done: bool
    purchase: Purchase
    reason: Reason | None = None

    def as_dict(self) -> dict[str, Any]:
        reason = self.reason.as_dict() if self.reason else None
        return {"done": self.done, "reason": reason, "purchase": self.purchase.as_dict()}


@dataclass(frozen=True, slots=True)
class PaymentAnswer(Shown):
    """The answer to whoever has to pay for an HTTP request.

    ``payment`` is what the server takes, the same for the same key for ever; None while the
    purchase waits for people or for its signature, or once it was refused.
    """

    purchase: Purchase
    payment: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        payment = dict(self.payment) if self.payment is not None else None
        return {"purchase": self.purchase.as_dict(), "payment": payment}


class StatusNow(NamedTuple):
    """A purchase's status; ``whole`` once its receipts, and the end of its hold, are kept too.

    ``authorised`` once what pays for its HTTP request is signed.
    """

    status: Status
    whole: bool
    authorised: bool = False
