"""Budgets, approvals and on-chain USDC escrow payments for teams of agents.

Public names load when they are first used: importing this package imports neither web3 nor SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.budgets import Sharing
    from coordinator.domain.blocker import Blocker
    from coordinator.domain.cost import Cost, CostDecision, CostStatus
    from coordinator.domain.decision import Decision
    from coordinator.domain.errors import (
        ChainUnavailable,
        ConfigurationError,
        CoordinatorClosed,
        CoordinatorError,
        Denied,
        ForkedProcess,
        IdempotencyConflict,
        InvalidRequest,
        LedgerTampered,
        LedgerUnavailable,
        OutcomeUnknown,
        TxReverted,
        UnknownId,
    )
    from coordinator.domain.increase import Increase
    from coordinator.domain.lifecycle import Status
    from coordinator.domain.limits import LimitState
    from coordinator.domain.observed import Event
    from coordinator.domain.policy import Policy
    from coordinator.domain.proposal import Proposal
    from coordinator.domain.purchase import Answer, Purchase
    from coordinator.domain.reasons import Reason, ReasonCode
    from coordinator.domain.reconciliation import Discrepancy, Reconciliation
    from coordinator.domain.replay import Replay
    from coordinator.domain.service import Finding, ServiceLevel
    from coordinator.domain.usdc import Usdc
    from coordinator.interfaces.agent import Agent
    from coordinator.interfaces.hold import Hold
    from coordinator.interfaces.python import Coordinator
    from coordinator.interfaces.session import Session
    from coordinator.ledger.approvals import JudgedApproval, PendingApproval
    from coordinator.ledger.backup import Backup
    from coordinator.ledger.limit_book import Used
    from coordinator.ledger.notices import KeptNotice
    from coordinator.ledger.operations import Order
    from coordinator.ledger.overlays import Overlay
    from coordinator.reporting import GasReport, Report

__all__ = [
    "Agent",
    "Answer",
    "Backup",
    "Blocker",
    "ChainUnavailable",
    "ConfigurationError",
    "Coordinator",
    "CoordinatorClosed",
    "CoordinatorError",
    "Cost",
    "CostDecision",
    "CostStatus",
    "Decision",
    "Denied",
    "Discrepancy",
    "Event",
    "Finding",
    "ForkedProcess",
    "GasReport",
    "Hold",
    "IdempotencyConflict",
    "Increase",
    "InvalidRequest",
    "JudgedApproval",
    "KeptNotice",
    "LedgerTampered",
    "LedgerUnavailable",
    "LimitState",
    "Order",
    "OutcomeUnknown",
    "Overlay",
    "PendingApproval",
    "Policy",
    "Proposal",
    "Purchase",
    "Reason",
    "ReasonCode",
    "Reconciliation",
    "Replay",
    "Report",
    "ServiceLevel",
    "Session",
    "Sharing",
    "Status",
    "TxReverted",
    "UnknownId",
    "Usdc",
    "Used",
]

_HOMES = {
    "Agent": "interfaces.agent",
    "Answer": "domain.purchase",
    "Backup": "ledger.backup",
    "Blocker": "domain.blocker",
    "ChainUnavailable": "domain.errors",
    "ConfigurationError": "domain.errors",
    "Coordinator": "interfaces.python",
    "CoordinatorClosed": "domain.errors",
    "CoordinatorError": "domain.errors",
    "Cost": "domain.cost",
    "CostDecision": "domain.cost",
    "CostStatus": "domain.cost",
    "Decision": "domain.decision",
    "Denied": "domain.errors",
    "Discrepancy": "domain.reconciliation",
    "Event": "domain.observed",
    "Finding": "domain.service",
    "ForkedProcess": "domain.errors",
    "GasReport": "reporting",
    "Hold": "interfaces.hold",
    "IdempotencyConflict": "domain.errors",
    "Increase": "domain.increase",
    "InvalidRequest": "domain.errors",
    "JudgedApproval": "ledger.approvals",
    "KeptNotice": "ledger.notices",
    "LedgerTampered": "domain.errors",
    "LedgerUnavailable": "domain.errors",
    "LimitState": "domain.limits",
    "Order": "ledger.operations",
    "OutcomeUnknown": "domain.errors",
    "Overlay": "ledger.overlays",
    "PendingApproval": "ledger.approvals",
    "Policy": "domain.policy",
    "Proposal": "domain.proposal",
    "Purchase": "domain.purchase",
    "Reason": "domain.reasons",
    "ReasonCode": "domain.reasons",
    "Reconciliation": "domain.reconciliation",
    "Replay": "domain.replay",
    "Report": "reporting",
    "ServiceLevel": "domain.service",
    "Session": "interfaces.session",
    "Sharing": "budgets",
    "Status": "domain.purchase",
    "TxReverted": "domain.errors",
    "UnknownId": "domain.errors",
    "Usdc": "domain.usdc",
    "Used": "ledger.limit_book",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
