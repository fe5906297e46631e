"""Operators pause one scope over HTTP, and approvers let just that go on again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.service.simulated import AGENT, SimulatedService, simulated_service

SCOPES: dict[str, dict[str, Any]] = {
    "organisation": {},
    f"agent:{AGENT}": {"agent": AGENT},
    "provider:paper-api": {"provider": "paper-api"},
    "x402": {"x402": True},
}


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.mark.parametrize("name", SCOPES)
def test_a_scope_is_paused_and_goes_on_by_itself(service: SimulatedService, name: str) -> None:
    operator, approver = service.client("operator"), service.client("approver")

    def told(client: Any, verb: str, **scope: Any) -> Any:
        answered = client.post(f"/v1/{verb}", json={"reason": "a look", **scope})
        assert answered.status_code == 200, answered.text
        return answered.json()["changed"]

    def paused() -> list[str]:
        return [one["scope"] for one in operator.get("/v1/pauses").json()["items"]]

    scope = SCOPES[name]
    assert told(operator, "pause", **scope)
    assert paused() == [name]
    assert not told(operator, "pause", **scope)
    assert not told(approver, "unpause", **scope), "two approvers have to agree"
    assert paused() == [name]
    assert service.coordinator.unpause("a look", by="bob", **scope)
    assert paused() == []


def test_two_scopes_at_once_are_refused_in_a_sentence(service: SimulatedService) -> None:
    asked = {"reason": "a look", "x402": True, "provider": "paper-api"}
    answered = service.client("operator").post("/v1/pause", json=asked)
    assert answered.status_code == 422
    assert "name only one of" in answered.text
    assert service.client("operator").get("/v1/pauses").json()["items"] == []
