"""A key that was revoked does not count again because somebody changed its row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.integration.service.simulated import SimulatedService, simulated_service


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def _sql(service: SimulatedService, statement: str, **values: object) -> None:
    with service.coordinator.wiring.database.write() as connection:
        connection.execute(text(statement), values)


def test_a_revoked_key_does_not_count_again_by_sql(service: SimulatedService) -> None:
    client, c = service.client("agent"), service.coordinator
    assert client.get("/v1/me").status_code == 200  # this process has seen it while it counted
    (key,) = [k for k in c.api_keys() if k.name == "research-agent"]
    c.revoke_api_key(key.id, by="root")
    _sql(
        service,
        "UPDATE api_keys SET revoked_at = NULL, revoked_by = NULL WHERE id = :id",
        id=key.id,
    )
    answered = client.get("/v1/me")
    assert answered.status_code != 200, answered.text


def test_a_rotated_key_does_not_count_for_ever_by_sql(service: SimulatedService) -> None:
    client, c = service.client("approver"), service.coordinator
    assert client.get("/v1/me").status_code == 200
    (key,) = [k for k in c.api_keys() if k.name == "alice"]
    c.rotate_api_key(key.id, by="root", overlap=0)
    _sql(
        service,
        "UPDATE api_keys SET expires_at = NULL, replaced_by = NULL WHERE id = :id",
        id=key.id,
    )
    answered = client.get("/v1/me")
    assert answered.status_code != 200, answered.text
