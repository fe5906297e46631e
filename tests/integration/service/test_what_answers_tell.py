"""Answers to an agent tell nothing of what belongs to others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.service.simulated import OTHER, SimulatedService, simulated_service


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def _of_both(service: SimulatedService, path: str, real: str, made_up: str) -> tuple[str, str]:
    client = service.client("agent")
    first, second = (client.get(path.format(one)).json() for one in (real, made_up))
    return str(first).replace(real, "ID"), str(second).replace(made_up, "ID")


def test_a_purchase_of_another_is_as_one_that_nobody_has(service: SimulatedService) -> None:
    theirs = service.buy("5.00", agent=OTHER, wait=False)
    one, other = _of_both(service, "/v1/purchases/{}", theirs.id, "pur_" + "0" * 20)
    assert one == other


def test_a_cost_of_another_is_as_one_that_nobody_has(service: SimulatedService) -> None:
    theirs = service.coordinator.agent(OTHER).hold("1.00")
    one, other = _of_both(service, "/v1/holds/{}", theirs.id, "cst_" + "0" * 20)
    assert one == other


def test_a_cursor_of_another_is_as_one_that_nobody_has(service: SimulatedService) -> None:
    service.buy("5.00", wait=False)
    theirs = service.buy("5.00", agent=OTHER, wait=False)
    client = service.client("agent")
    codes = [
        client.get("/v1/purchases", params={"after": after}).status_code
        for after in (theirs.id, "pur_" + "0" * 20)
    ]
    assert codes[0] == codes[1]


def test_a_session_of_another_is_not_said_to_be_whose(service: SimulatedService) -> None:
    service.coordinator.agent(OTHER).open_session("a run of data-agent's")
    asked = {"amount": "1", "session": "a run of data-agent's"}
    judged = service.client("agent").post("/v1/holds/check", json=asked)
    assert OTHER not in judged.json()["reasons"][0]["message"].split("belongs to")[-1]


def test_an_agents_receipt_tells_no_host_and_no_user_of_the_system(
    service: SimulatedService,
) -> None:
    bought = service.buy("60.00", wait=False)
    for name in ("alice", "bob"):
        service.coordinator.approve(bought.approval_id or "", approver=name)
    receipt = service.client("agent").get(f"/v1/purchases/{bought.id}/receipt").json()
    told = [row["body"] for row in receipt["audit"]]
    assert not any({"host", "user"} & body.keys() for body in told)
