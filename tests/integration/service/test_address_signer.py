"""A host that has only the treasury's address does all but sign, and says so when asked to."""

from __future__ import annotations

import pytest

from tests.integration.service.processes import Service

BUY = ("purchase", "request", "--agent", "research-agent", "--provider", "paper-api")
BUY += ("--amount", "25.00", "--purpose", "a paper", "--idempotency-key", "papers-1")


def test_what_it_decides_is_funded_by_the_worker(service: Service) -> None:
    service.worker()
    bought = service.run(*BUY, acting=False)
    assert bought["status"] == "funded"
    assert service.run(*BUY, acting=False)["purchase_id"] == bought["purchase_id"]


@pytest.mark.parametrize(
    "command",
    [
        ("worker",),
        pytest.param(("recover",), marks=pytest.mark.campaign),
        pytest.param(("serve", "--with-worker"), marks=pytest.mark.campaign),
    ],
)
def test_it_says_that_it_can_not_act(service: Service, command: tuple[str, ...]) -> None:
    told = service.run(*command, acting=False, code=2)["error"]
    assert told["code"] == "configuration"
    assert service.treasury in told["message"] and "worker" in told["message"]


def test_it_may_be_the_address_that_the_database_belongs_to(service: Service) -> None:
    fresh = {"COORDINATOR_DATABASE_URL": f"sqlite:///{service.folder}/fresh.db"}
    unknown = service.run("limits", acting=False, code=2, COORDINATOR_SIGNER="address", **fresh)
    unknown = unknown["error"]
    assert "belongs to none yet" in unknown["message"]
    service.run("limits")
    service.run("limits", acting=False, COORDINATOR_SIGNER="address")
    checks = service.run("doctor", acting=False, code=None, COORDINATOR_SIGNER="address")
    [key] = [check for check in checks if check["check"] == "key"]
    assert key["status"] == "ok" and service.treasury in key["found"]


@pytest.mark.parametrize(
    "address",
    [
        "0x12",
        pytest.param("nobody", marks=pytest.mark.campaign),
        pytest.param("0x" + "0" * 40, marks=pytest.mark.campaign),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_made(service: Service, address: str) -> None:
    told = service.run("limits", acting=False, code=2, COORDINATOR_SIGNER=f"address:{address}")
    assert "COORDINATOR_SIGNER" in told["error"]["message"]


def test_a_host_that_nobody_certified_does_not_begin_to_serve(service: Service) -> None:
    state = str(service.folder / "another-state")
    told = service.run("serve", acting=False, code=2, COORDINATOR_STATE_FOLDER=state)["error"]
    assert "is not certified" in told["message"]
    assert "coordinator hosts add" in told["message"]
