"""A research crew that buys three services: the same on a local chain and on a testnet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.gas import GAS_LIMITS
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc

APPROVER: Final = "alice"
_TIMEOUT_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Errand:
    """One purchase of the crew; above its agent's threshold it needs approval."""

    agent: str
    amount: Usdc
    purpose: str
    key: str

    @property
    def asks(self) -> bool:
        return self.amount > _THRESHOLD


_THRESHOLD: Final = Usdc("1.50")
ERRANDS: Final = (
    Errand("research-agent", Usdc("1.00"), "Academic paper access", "papers"),
    Errand("data-agent", Usdc("1.50"), "A cleaned data set", "data"),
    Errand("compute-agent", Usdc("2.00"), "An hour of a graphics card", "compute"),
)


def crew_policy(provider: str) -> Policy:
    """Make a policy in which three agents may spend a few USDC on one provider."""
    agent = {
        "per_purchase_limit": "5",
        "daily_limit": "10",
        "total_limit": "50",
        "approval_threshold": str(_THRESHOLD),
    }
    return Policy.from_dict(
        {
            "organisation": {"total_limit": "50", "daily_limit": "20"},
            "agents": {errand.agent: agent for errand in ERRANDS},
            "providers": {"crew-provider": {"address": provider, "service": "crew"}},
            "approvals": {"approvers": [APPROVER]},
            "escrow": {"deadline_after": "24h", "dispute_window": "1h"},
        }
    )


def planned(errands: tuple[Errand, ...] = ERRANDS) -> Iterator[tuple[str, str, int]]:
    """List (step, description, gas limit) of every transaction the crew would sign, in order."""
    total = Usdc.from_base_units(sum(e.amount.base_units for e in errands))
    yield "approve", f"allow the vault to take at least {total} USDC", _gas("approve")
    for errand in errands:
        asked = f", after {APPROVER} approved" if errand.asks else ""
        yield "create", f"{errand.agent}: open an escrow for {errand.purpose}", _gas("create")
        yield "link", f"{errand.agent}: put {errand.amount} USDC in it{asked}", _gas("link")


def run_crew(
    coordinator: Coordinator, *, run_id: str, told: Callable[[Errand, Purchase], None]
) -> list[Purchase]:
    """Buy each errand, wait until it is funded or final, and return the purchases in order.

    The same ``run_id`` again buys nothing twice: its keys are bound.
    """
    bought = []
    for errand in ERRANDS:
        agent = coordinator.agent(errand.agent)
        purchase = agent.purchase(
            provider="crew-provider",
            amount=errand.amount,
            purpose=errand.purpose,
            idempotency_key=f"{run_id}/{errand.key}",
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        if purchase.needs_approval and purchase.approval_id:
            coordinator.approve(purchase.approval_id, approver=APPROVER)
            purchase = agent.wait_for(purchase.id, timeout_seconds=_TIMEOUT_SECONDS)
        told(errand, purchase)
        bought.append(purchase)
    return bought


def summary(coordinator: Coordinator, purchases: list[Purchase]) -> dict[str, Any]:
    """Return the crew's run as plain data: purchases, discrepancies, report."""
    return {
        "ok": all(purchase.ok for purchase in purchases),
        "purchases": [purchase.as_dict() for purchase in purchases],
        "reconciliation": coordinator.reconcile().as_dict(),
        "report": coordinator.report().as_dict(),
    }


def _gas(step: str) -> int:
    return GAS_LIMITS[step]
