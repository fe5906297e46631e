"""A target that was removed is told nothing because somebody put its row back."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select

from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.store import schema as t
from tests.integration.service.simulated import simulated_service


def test_a_removed_target_is_told_nothing_by_sql() -> None:
    with simulated_service() as service:
        c = service.coordinator
        made = c.add_webhook("https://example.com/in", by="olga").webhook
        c.wiring.webhooks.prove(made)  # as before each delivery in this process
        with c.wiring.database.read() as connection:
            row = dict(connection.execute(select(t.webhooks)).mappings().one())
        c.remove_webhook(made.id, by="olga")
        with c.wiring.database.write() as connection:
            connection.execute(insert(t.webhooks).values(row))
        (back,) = c.wiring.outbox.enabled() if hasattr(c.wiring, "outbox") else c.webhooks()
        with pytest.raises(LedgerTampered):
            c.wiring.webhooks.prove(back)
