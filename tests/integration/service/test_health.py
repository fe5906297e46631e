"""Health, readiness and metrics of real processes."""

from __future__ import annotations

import time

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.service.processes import Service, client
from tests.integration.stores import on_either

TERMS = {"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"}


def values(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of its labels, sorted by their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@on_either
def test_a_service_is_ready_while_a_worker_acts_and_tells_its_figures(service: Service) -> None:
    token = service.key("agent", "research-agent")
    auditor = service.key("auditor", "ann")
    worker, metrics_url = service.watched_worker()
    _, url = service.serve("--metrics-port", "0")

    with client(url, token) as agent, client(url, auditor) as reader, client(url) as nobody:
        assert nobody.get("/healthz").json() == {"status": "ok"}
        asked = agent.post(
            "/v1/purchases",
            params={"wait": "funded", "timeout": 30},
            headers={"Idempotency-Key": "papers-1"},
            json=TERMS,
        )
        assert asked.json()["status"] == "funded", asked.text
        denied = agent.post(
            "/v1/purchases",
            headers={"Idempotency-Key": "papers-2"},
            json=TERMS | {"provider": "0x" + "11" * 20},
        )
        assert denied.json()["status"] == "denied"

        ready = nobody.get("/readyz")
        assert ready.status_code == 200, ready.text
        checks = ready.json()["checks"]
        assert set(checks) == {"database", "schema", "worker", "chain"}
        assert all(check["ok"] for check in checks.values())
        assert checks["chain"]["block"] > 0

        assert nobody.get("/metrics").status_code == 401
        assert agent.get("/metrics").status_code == 403
        told = values(reader.get("/metrics").text)
        worker_told = values(httpx.get(metrics_url, trust_env=False).text)

    assert told[_decisions("approved", "")] == 1
    assert told[_decisions("denied", "provider_not_allowed")] == 1
    assert told["coordinator_decision_seconds_count", ()] == 2
    assert told["coordinator_http_requests_total", ("POST", "/v1/purchases", "200")] == 2
    assert told["coordinator_holds", ("purchase",)] == 1
    assert told["coordinator_held_usdc", ("purchase",)] == 25
    assert told["coordinator_purchases_open", ("funded",)] == 1
    assert told["coordinator_purchases_open", ("created",)] == 0
    assert told["coordinator_treasury_usdc", ()] == 975
    assert told["coordinator_worker_alive", ()] == 1
    assert told["coordinator_nonce_gap", ()] == 0
    assert told["coordinator_gas_balance_wei", ()] > 10**16
    assert worker_told["coordinator_rpc_calls_total", ("eth_sendRawTransaction",)] >= 2

    worker.terminate()
    worker.wait(30)
    with client(url) as nobody:
        # The figures are at most two seconds old.
        deadline = time.monotonic() + 60
        while (refused := nobody.get("/readyz")).status_code != 503:
            assert time.monotonic() < deadline, refused.text
        assert refused.json()["checks"]["worker"] == {
            "ok": False,
            "detail": "no worker holds the lease",
        }


def _decisions(outcome: str, reason: str) -> tuple[str, tuple[str, ...]]:
    return "coordinator_decisions_total", ("purchase", outcome, reason)
