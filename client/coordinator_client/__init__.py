"""Thin client of the USDC escrow coordinator: an agent needs a URL, a key, and nothing else."""

from coordinator_client._version import __version__
from coordinator_client.agent import Agent
from coordinator_client.async_agent import AsyncAgent
from coordinator_client.async_handles import AsyncHold, AsyncSession
from coordinator_client.costs import Cost, CostDecision, Increase, Run
from coordinator_client.errors import (
    ChainUnavailable,
    ConfigurationError,
    CoordinatorError,
    Denied,
    Forbidden,
    IdempotencyConflict,
    InvalidRequest,
    LedgerUnavailable,
    OutcomeUnknown,
    ServiceUnavailable,
    TooManyRequests,
    Unauthenticated,
    UnknownId,
)
from coordinator_client.handles import Hold, Session
from coordinator_client.usdc import Usdc
from coordinator_client.values import (
    Answer,
    Blocker,
    Decision,
    Limit,
    LimitState,
    Purchase,
    Reason,
    Scope,
)
from coordinator_client.words import CostStatus, IncreaseStatus, ReasonCode, Status

__all__ = [
    "Agent",
    "Answer",
    "AsyncAgent",
    "AsyncHold",
    "AsyncSession",
    "Blocker",
    "ChainUnavailable",
    "ConfigurationError",
    "CoordinatorError",
    "Cost",
    "CostDecision",
    "CostStatus",
    "Decision",
    "Denied",
    "Forbidden",
    "Hold",
    "IdempotencyConflict",
    "Increase",
    "IncreaseStatus",
    "InvalidRequest",
    "LedgerUnavailable",
    "Limit",
    "LimitState",
    "OutcomeUnknown",
    "Purchase",
    "Reason",
    "ReasonCode",
    "Run",
    "Scope",
    "ServiceUnavailable",
    "Session",
    "Status",
    "TooManyRequests",
    "Unauthenticated",
    "UnknownId",
    "Usdc",
    "__version__",
]
