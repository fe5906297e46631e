"""Budgets, approvals and on-chain USDC escrow payments for teams of agents.

Public names load when they are first used: importing this package imports neither web3 nor SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.domain.errors import (
        ConfigurationError,
        CoordinatorError,
        Denied,
        IdempotencyConflict,
        InvalidRequest,
        LedgerUnavailable,
    )
    from coordinator.domain.observed import Event
    from coordinator.domain.policy import Policy
    from coordinator.domain.purchase import Answer, Purchase, Status
    from coordinator.domain.reasons import Reason, ReasonCode
    from coordinator.domain.usdc import Usdc
    from coordinator.interfaces.agent import Agent
    from coordinator.interfaces.python import Coordinator

__all__ = [
    "Agent",
    "Answer",
    "ConfigurationError",
    "Coordinator",
    "CoordinatorError",
    "Denied",
    "Event",
    "IdempotencyConflict",
    "InvalidRequest",
    "LedgerUnavailable",
    "Policy",
    "Purchase",
    "Reason",
    "ReasonCode",
    "Status",
    "Usdc",
]

_HOMES = {
    "Agent": "interfaces.agent",
    "Answer": "domain.purchase",
    "ConfigurationError": "domain.errors",
    "Coordinator": "interfaces.python",
    "CoordinatorError": "domain.errors",
    "Denied": "domain.errors",
    "Event": "domain.observed",
    "IdempotencyConflict": "domain.errors",
    "InvalidRequest": "domain.errors",
    "LedgerUnavailable": "domain.errors",
    "Policy": "domain.policy",
    "Purchase": "domain.purchase",
    "Reason": "domain.reasons",
    "ReasonCode": "domain.reasons",
    "Status": "domain.purchase",
    "Usdc": "domain.usdc",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
