"""An agent's key pays nobody early that it may not, and takes nothing back from approvers."""

from __future__ import annotations

from tests.integration.service.simulated import simulated_service


def test_a_disabled_agents_key_pays_nobody_early() -> None:
    with simulated_service() as service:
        c = service.coordinator
        bought = service.buy("5.00")
        assert bought.ok, bought.status
        c.simulation.deliver(bought)
        assert c.wait_for(bought.id, until="delivered").status == "delivered"
        c.disable_agent("research-agent", by="root", reason="its key was stolen")
        answered = service.client("agent").post(f"/v1/purchases/{bought.id}/settle").json()
        assert answered["done"] is False, "the provider is paid before anybody could look"


def test_contesting_again_is_told_once() -> None:
    with simulated_service() as service:
        c = service.coordinator
        bought = service.buy("5.00")
        c.simulation.deliver(bought)
        assert c.wait_for(bought.id, until="delivered").status == "delivered"
        client = service.client("agent")
        for _ in range(3):
            answered = client.post(f"/v1/purchases/{bought.id}/contest", json={"reason": "empty"})
            assert answered.json()["done"]
        told = [row for row in c.audit() if row["event"] == "purchase_contested"]
        assert len(told) == 1, f"{len(told)} rows, so as many events to every webhook"


def test_an_approvers_settling_is_not_taken_back_by_the_agent() -> None:
    with simulated_service(approvals={"approvers": ["alice"]}) as service:
        c = service.coordinator
        bought = service.buy("60.00", wait=False)
        c.approve(bought.approval_id or "", approver="alice")
        bought = c.wait_for(bought.id)
        c.simulation.deliver(bought)
        assert c.wait_for(bought.id, until="delivered").status == "delivered"
        c.wiring.executor.stop()  # the worker is away for a while
        assert c.settle(bought.id, approver="alice").done
        c.agent("research-agent").contest(bought.id, reason="a thief's")
        rows = [row["event"] for row in c.audit() if row["subject"] == bought.id]
        assert rows[-1] == "settle_wanted", rows[-3:]
