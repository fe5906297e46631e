"""Thin client of the USDC escrow coordinator: an agent needs a URL, a key, and nothing else.

Public names load when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator_client._version import __version__

if TYPE_CHECKING:
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
        PaymentAnswer,
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
    "PaymentAnswer",
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

_HOMES = {
    "Agent": "agent",
    "Answer": "values",
    "AsyncAgent": "async_agent",
    "AsyncHold": "async_handles",
    "AsyncSession": "async_handles",
    "Blocker": "values",
    "ChainUnavailable": "errors",
    "ConfigurationError": "errors",
    "CoordinatorError": "errors",
    "Cost": "costs",
    "CostDecision": "costs",
    "CostStatus": "words",
    "Decision": "values",
    "Denied": "errors",
    "Forbidden": "errors",
    "Hold": "handles",
    "IdempotencyConflict": "errors",
    "Increase": "costs",
    "IncreaseStatus": "words",
    "InvalidRequest": "errors",
    "LedgerUnavailable": "errors",
    "Limit": "values",
    "LimitState": "values",
    "OutcomeUnknown": "errors",
    "PaymentAnswer": "values",
    "Purchase": "values",
    "Reason": "values",
    "ReasonCode": "words",
    "Run": "costs",
    "Scope": "values",
    "ServiceUnavailable": "errors",
    "Session": "handles",
    "Status": "words",
    "TooManyRequests": "errors",
    "Unauthenticated": "errors",
    "UnknownId": "errors",
    "Usdc": "usdc",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
