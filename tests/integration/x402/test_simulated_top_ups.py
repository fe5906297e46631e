"""The float is filled on the chain that lives inside the process, too."""

from __future__ import annotations

from typing import Any

from coordinator import Coordinator, Usdc
from coordinator.domain.policy.text import parse_policy

POLICY = """
[organisation]
total_limit = "5000"

[agents.research-agent]
per_purchase_limit = "100"
total_limit = "1000"

[x402]
top_up_below = "5"
top_up_to = "20"
top_up_daily_limit = "30"
"""


def go(coordinator: Coordinator) -> dict[str, Any]:
    """Rounds and blocks until everything has ended; the wallet as people see it then."""
    for _ in range(4):
        assert coordinator.wiring.executor.run_once()
        coordinator.simulation.mine()
    return coordinator.x402_wallet() or {}


def test_it_is_filled_and_people_fill_it_up_to_the_days_limit() -> None:
    wallet = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
    terms = {"network": "simulated", "x402_signer": f"address:{wallet}"}
    with Coordinator.from_env(policy=parse_policy(POLICY), act=False, **terms) as coordinator:
        filled = go(coordinator)
        assert (filled["usdc"], filled["booked"], filled["top_ups"]) == ("20.00",) * 3
        coordinator.wiring.treasury.top_up("10", by="olga", reason="a test")
        found = go(coordinator)
        assert (found["usdc"], found["booked"], found["top_ups"]) == ("30.00",) * 3
        assert found["top_up_left"] == "0.00"
        assert coordinator.simulation.usdc_balance(wallet) == Usdc("30")
        assert coordinator.reconcile().discrepancies == ()
