"""What a fault of the database tells an agent names neither its file nor its host."""

from __future__ import annotations

from sqlalchemy import text

from tests.integration.service.simulated import simulated_service


def test_an_agent_is_not_told_where_the_database_is() -> None:
    with simulated_service() as service:
        client, database = service.client("agent"), service.coordinator.wiring.database
        assert client.get("/v1/me").status_code == 200
        with database.write() as connection:
            connection.execute(text("ALTER TABLE costs RENAME TO gone"))
        answered = client.get("/v1/holds/cst_00")
        assert answered.status_code == 503
        assert database.name not in answered.text, answered.json()["detail"]
