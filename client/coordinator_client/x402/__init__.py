"""Pay x402 servers with what the treasury signs: HTTP clients, and a scheme for the official SDK.

Needs the extra ``x402``. Public names load when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator_client.x402.calls import paying
    from coordinator_client.x402.errors import (
        PaymentDenied,
        PaymentFailed,
        PaymentNotTaken,
        PaymentUnknown,
        PaymentWaiting,
        SettlementPending,
    )
    from coordinator_client.x402.exact import sdk_client, sdk_client_sync
    from coordinator_client.x402.httpx_client import PayingClient
    from coordinator_client.x402.outcomes import Paid, paid
    from coordinator_client.x402.requests_session import PayingSession

__all__ = [
    "Paid",
    "PayingClient",
    "PayingSession",
    "PaymentDenied",
    "PaymentFailed",
    "PaymentNotTaken",
    "PaymentUnknown",
    "PaymentWaiting",
    "SettlementPending",
    "paid",
    "paying",
    "sdk_client",
    "sdk_client_sync",
]

_HOMES = {
    "Paid": "outcomes",
    "PayingClient": "httpx_client",
    "PayingSession": "requests_session",
    "PaymentDenied": "errors",
    "PaymentFailed": "errors",
    "PaymentNotTaken": "errors",
    "PaymentUnknown": "errors",
    "PaymentWaiting": "errors",
    "SettlementPending": "errors",
    "paid": "outcomes",
    "paying": "calls",
    "sdk_client": "exact",
    "sdk_client_sync": "exact",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
