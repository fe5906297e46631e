"""From a request over HTTP to a funded escrow, with no key where it is decided."""

from __future__ import annotations

from tests.integration.service.processes import Service, client


def test_a_purchase_asked_over_http_is_funded_by_the_worker(service: Service) -> None:
    token = service.key("agent", "research-agent")
    service.worker()
    _, url = service.serve()

    with client(url, token) as http:
        asked = http.post(
            "/v1/purchases",
            params={"wait": "funded", "timeout": 30},
            headers={"Idempotency-Key": "papers-1"},
            json={"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"},
        )
        assert asked.status_code == 200, asked.text
        purchase = asked.json()
        assert purchase["status"] == "funded"
        assert purchase["agent"] == "research-agent"
        again = http.get(f"/v1/purchases/{purchase['purchase_id']}").json()
        assert again["escrow_id"] == purchase["escrow_id"]
    assert service.run("reconcile")["discrepancies"] == []
