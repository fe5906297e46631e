"""Stable codes that explain a purchase's status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coordinator.domain.shown import Shown


class ReasonCode(StrEnum):
    """Codes are part of the public face: they are added to, never renamed."""

    AGENT_NOT_REGISTERED = "agent_not_registered"
    AGENT_DISABLED = "agent_disabled"
    PAUSED = "paused"
    AGENT_PAUSED = "agent_paused"
    POOL_PAUSED = "pool_paused"
    PROVIDER_PAUSED = "provider_paused"
    INVALID_AMOUNT = "invalid_amount"
    INVALID_PROVIDER = "invalid_provider"
    INVALID_PURPOSE = "invalid_purpose"
    BELOW_MINIMUM = "below_minimum"
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"
    CATEGORY_NOT_ALLOWED = "category_not_allowed"
    CATEGORY_REQUIRED = "category_required"
    TASK_REQUIRED = "task_required"
    TASK_NOT_ALLOWED = "task_not_allowed"
    TASK_CLOSED = "task_closed"
    SESSION_REQUIRED = "session_required"
    SESSION_NOT_ALLOWED = "session_not_allowed"
    SESSION_CLOSED = "session_closed"
    NO_LIMIT_CONFIGURED = "no_limit_configured"
    PER_PURCHASE_LIMIT = "per_purchase_limit"
    HOURLY_LIMIT = "hourly_limit"
    DAILY_LIMIT = "daily_limit"
    WEEKLY_LIMIT = "weekly_limit"
    MONTHLY_LIMIT = "monthly_limit"
    ROLLING_LIMIT = "rolling_limit"
    TOTAL_LIMIT = "total_limit"
    POOL_LIMIT = "pool_limit"
    ORGANISATION_LIMIT = "organisation_limit"
    CATEGORY_LIMIT = "category_limit"
    TASK_LIMIT = "task_limit"
    SESSION_LIMIT = "session_limit"
    PROVIDER_LIMIT = "provider_limit"
    INCREASE_LIMIT = "increase_limit"
    APPROVAL_REQUIRED = "approval_required"
    MORE_APPROVALS_REQUIRED = "more_approvals_required"
    TOO_MANY_WAITING = "too_many_waiting"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_NOT_FOUND = "approval_not_found"
    NOT_AN_APPROVER = "not_an_approver"
    RECIPIENT_NOT_LISTED = "recipient_not_listed"
    CHANGE_DELAYED = "change_delayed"
    SIGNATURE_REQUIRED = "signature_required"
    SIGNATURE_INVALID = "signature_invalid"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CHAIN_LIMIT = "chain_limit"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    NOT_CANCELLABLE = "not_cancellable"
    NOT_SETTLEABLE = "not_settleable"
    DISPUTE_WINDOW_CLOSED = "dispute_window_closed"
    PRICE_ABOVE_REGISTERED = "price_above_registered"
    INSUFFICIENT_USDC = "insufficient_usdc"
    INSUFFICIENT_GAS = "insufficient_gas"
    CHAIN_UNAVAILABLE = "chain_unavailable"
    AUTHORISATION_UNUSED = "authorisation_unused"
    REVERTED = "reverted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    STRANDED = "stranded"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Reason(Shown):
    """A reason: a stable code for programs and one sentence for people, which ``str`` gives."""

    code: ReasonCode
    message: str

    def __str__(self) -> str:
        return self.message

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code.value, "message": self.message}
