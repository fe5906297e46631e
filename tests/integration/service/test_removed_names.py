"""A key of somebody whom the policy does not have any more changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coordinator import Policy
from tests.integration.service.simulated import (
    AGENT,
    OTHER,
    POLICY,
    SimulatedService,
    simulated_service,
)


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def _apply(service: SimulatedService, **changes: Any) -> None:
    w = service.coordinator.wiring
    policy = Policy.from_dict({**POLICY, **changes})
    w.activate_policy(policy, author="root", reason="she left", now=w.clock())


def test_a_removed_approver_pauses_nothing(service: SimulatedService) -> None:
    _apply(service, approvals={"approvers": ["bob", "carol"], "required": 2})
    client = service.client("approver")  # alice's
    answered = client.post("/v1/pause", json={"reason": "because I can"})
    assert answered.status_code != 200 or not answered.json()["changed"], answered.text


def test_a_removed_approver_reads_nothing(service: SimulatedService) -> None:
    _apply(service, approvals={"approvers": ["bob", "carol"], "required": 2})
    answered = service.client("approver").get("/v1/audit")
    assert answered.status_code != 200, "everything, agents' words included"


def test_a_removed_agent_charges_nothing_to_the_organisation(service: SimulatedService) -> None:
    _apply(service, agents={AGENT: POLICY["agents"][AGENT]})
    answered = service.client("other").post(
        "/v1/costs", json={"amount": "1000000"}, headers={"Idempotency-Key": "k"}
    )
    bought = service.buy("5.00", wait=False)
    assert not bought.denied, (OTHER, answered.status_code, bought.reason)
