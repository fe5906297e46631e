"""Budgets, approvals and on-chain USDC escrow payments for teams of agents.

Public names load when they are first used: importing this package imports neither web3 nor SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.api.agent import Agent
    from coordinator.api.coordinator import Coordinator
    from coordinator.api.hold import Hold
    from coordinator.api.session import Session
    from coordinator.books.backup import Backup
    from coordinator.books.reporting import GasReport, Report
    from coordinator.budgets.budgets import Sharing
    from coordinator.domain.access.keys import ApiKey, NewKey
    from coordinator.domain.access.webhooks import FailedDelivery, NewWebhook, Webhook
    from coordinator.domain.chain.reconciliation import Discrepancy, Reconciliation
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
    from coordinator.domain.limits.increase import Increase
    from coordinator.domain.limits.limits import LimitState, Used
    from coordinator.domain.limits.overlay import Overlay
    from coordinator.domain.limits.service import Finding, ServiceLevel
    from coordinator.domain.notices import KeptNotice
    from coordinator.domain.observed import Event
    from coordinator.domain.policy.policy import Policy
    from coordinator.domain.purchase.approval import JudgedApproval, PendingApproval
    from coordinator.domain.purchase.background import Background
    from coordinator.domain.purchase.blocker import Blocker
    from coordinator.domain.purchase.cost import Cost, CostDecision, CostStatus
    from coordinator.domain.purchase.decision import Decision
    from coordinator.domain.purchase.lifecycle import Status
    from coordinator.domain.purchase.order import Order
    from coordinator.domain.purchase.proposal import Proposal
    from coordinator.domain.purchase.purchase import Answer, PaymentAnswer, Purchase
    from coordinator.domain.purchase.replay import Replay
    from coordinator.domain.reasons import Reason, ReasonCode
    from coordinator.domain.statements.signed import GivenSignature, SigningRequest
    from coordinator.domain.statements.statement import Statement
    from coordinator.domain.typed_data import Trust, TypedData
    from coordinator.domain.usdc import Usdc

__all__ = [
    "Agent",
    "Answer",
    "ApiKey",
    "Background",
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
    "FailedDelivery",
    "Finding",
    "ForkedProcess",
    "GasReport",
    "GivenSignature",
    "Hold",
    "IdempotencyConflict",
    "Increase",
    "InvalidRequest",
    "JudgedApproval",
    "KeptNotice",
    "LedgerTampered",
    "LedgerUnavailable",
    "LimitState",
    "NewKey",
    "NewWebhook",
    "Order",
    "OutcomeUnknown",
    "Overlay",
    "PaymentAnswer",
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
    "SigningRequest",
    "Statement",
    "Status",
    "Trust",
    "TxReverted",
    "TypedData",
    "UnknownId",
    "Usdc",
    "Used",
    "Webhook",
]

_HOMES = {
    "Agent": "api.agent",
    "Answer": "domain.purchase.purchase",
    "ApiKey": "domain.access.keys",
    "Background": "domain.purchase.background",
    "Backup": "books.backup",
    "Blocker": "domain.purchase.blocker",
    "ChainUnavailable": "domain.errors",
    "ConfigurationError": "domain.errors",
    "Coordinator": "api.coordinator",
    "CoordinatorClosed": "domain.errors",
    "CoordinatorError": "domain.errors",
    "Cost": "domain.purchase.cost",
    "CostDecision": "domain.purchase.cost",
    "CostStatus": "domain.purchase.cost",
    "Decision": "domain.purchase.decision",
    "Denied": "domain.errors",
    "Discrepancy": "domain.chain.reconciliation",
    "Event": "domain.observed",
    "FailedDelivery": "domain.access.webhooks",
    "Finding": "domain.limits.service",
    "ForkedProcess": "domain.errors",
    "GasReport": "books.reporting",
    "Hold": "api.hold",
    "IdempotencyConflict": "domain.errors",
    "Increase": "domain.limits.increase",
    "InvalidRequest": "domain.errors",
    "GivenSignature": "domain.statements.signed",
    "SigningRequest": "domain.statements.signed",
    "Statement": "domain.statements.statement",
    "Trust": "domain.typed_data",
    "TypedData": "domain.typed_data",
    "JudgedApproval": "domain.purchase.approval",
    "KeptNotice": "domain.notices",
    "LedgerTampered": "domain.errors",
    "LedgerUnavailable": "domain.errors",
    "LimitState": "domain.limits.limits",
    "NewKey": "domain.access.keys",
    "NewWebhook": "domain.access.webhooks",
    "Order": "domain.purchase.order",
    "OutcomeUnknown": "domain.errors",
    "Overlay": "domain.limits.overlay",
    "PendingApproval": "domain.purchase.approval",
    "Policy": "domain.policy.policy",
    "Proposal": "domain.purchase.proposal",
    "PaymentAnswer": "domain.purchase.purchase",
    "Purchase": "domain.purchase.purchase",
    "Reason": "domain.reasons",
    "ReasonCode": "domain.reasons",
    "Reconciliation": "domain.chain.reconciliation",
    "Replay": "domain.purchase.replay",
    "Report": "books.reporting",
    "ServiceLevel": "domain.limits.service",
    "Session": "api.session",
    "Sharing": "budgets.budgets",
    "Status": "domain.purchase.lifecycle",
    "TxReverted": "domain.errors",
    "UnknownId": "domain.errors",
    "Usdc": "domain.usdc",
    "Used": "domain.limits.limits",
    "Webhook": "domain.access.webhooks",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
