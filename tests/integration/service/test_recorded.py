"""An agent's key costs at most that agent's limits: it can't use up everybody's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.service.simulated import SimulatedService, simulated_service


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def test_one_agents_record_does_not_stop_all_others(service: SimulatedService) -> None:
    service.client("other").post(
        "/v1/costs", json={"amount": "1000000000"}, headers={"Idempotency-Key": "k"}
    )
    bought = service.buy("5.00", wait=False)
    assert not bought.denied, bought.reason


def test_a_disabled_agent_records_nothing(service: SimulatedService) -> None:
    service.coordinator.disable_agent("data-agent", by="root", reason="its key was stolen")
    service.client("other").post(
        "/v1/costs", json={"amount": "1000000000"}, headers={"Idempotency-Key": "k"}
    )
    bought = service.buy("5.00", wait=False)
    assert not bought.denied, bought.reason
