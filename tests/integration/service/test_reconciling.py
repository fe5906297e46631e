"""A host without a key compares the books as the worker left them, and writes nothing."""

from __future__ import annotations

import pytest

from tests.integration.service.processes import Service, client


def test_an_operator_compares_books_over_http_while_the_chain_is_ahead(service: Service) -> None:
    token = service.key("operator", "olga")
    ahead = service.run("reconcile")["to_block"]
    service.chain.mine(3)
    _, url = service.serve()
    with service.opened() as coordinator:
        before = coordinator.wiring.audit.head()
    with client(url, token) as http:
        told = http.post("/v1/reconciliation")
    assert told.status_code == 200, told.text
    assert told.json()["discrepancies"] == []
    assert told.json()["to_block"] == ahead
    with service.opened() as coordinator:
        assert coordinator.wiring.audit.head() == before
        cursor = coordinator.wiring.books.cursor()
        assert cursor is not None and cursor.number == ahead < service.chain.height


@pytest.mark.campaign
def test_books_that_nobody_opened_are_told(service: Service) -> None:
    token = service.key("operator", "olga")
    _, url = service.serve()
    with client(url, token) as http:
        told = http.post("/v1/reconciliation")
    assert (told.status_code, told.json()["code"]) == (422, "invalid_request")
    assert "worker" in told.json()["detail"]
    assert "worker" in service.run("reconcile", acting=False, code=2)["error"]["message"]
