"""A session that is opened for one agent has nothing of another's in it, nor gets it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.service.simulated import AGENT, OTHER, SimulatedService, simulated_service

S = "shared"


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.mark.parametrize("how", ["buys", "holds"])
def test_it_is_not_opened_for_one_when_another_was_in_it(
    service: SimulatedService, how: str
) -> None:
    if how == "buys":
        assert service.buy("60.00", agent=OTHER, session=S, wait=False).needs_approval
    else:
        assert service.coordinator.agent(OTHER).hold("5.00", session=S).ok
    told = service.client("operator").post("/v1/sessions", json={"session": S, "agent": AGENT})
    assert (told.status_code, told.json()["code"]) == (422, "invalid_request")
    assert "other agents" in told.json()["detail"]
    assert service.client("operator").post("/v1/sessions", json={"session": S}).is_success


def test_what_another_agent_records_is_not_charged_to_it(service: SimulatedService) -> None:
    made = service.client("operator").post("/v1/sessions", json={"session": S, "agent": AGENT})
    assert made.is_success
    told = service.client("other").post(
        "/v1/costs", json={"amount": "5", "session": S}, headers={"Idempotency-Key": "k"}
    )
    assert (told.status_code, told.json()["code"]) == (422, "invalid_request")
    report = service.client("agent").get("/v1/sessions/report", params={"session": S}).json()
    assert report["costs"] == []
