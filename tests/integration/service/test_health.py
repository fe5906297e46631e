"""Health, readiness and metrics of real processes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.service.processes import Service, client
from tests.integration.stores import on_either

DEPLOY: Final = Path(__file__).resolve().parents[3] / "deploy"
TERMS = {"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"}


def values(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of its labels, sorted by their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exposed(text: str) -> set[str]:
    """The names that a query may use."""
    found = set()
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
        found |= {family.name + suffix for suffix in suffixes.get(family.type, [""])}
    return found


def used(queries: Iterable[str]) -> set[str]:
    """The names of metrics in PromQL."""
    return {name for query in queries for name in re.findall(r"(?:coordinator|process)_\w+", query)}


def dashboard_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "coordinator.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def alert_queries() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    assert all(alert["annotations"]["summary"] for alert in alerts)
    return [alert["expr"] for alert in alerts]


@on_either
def test_a_service_is_ready_while_a_worker_acts_and_tells_its_figures(service: Service) -> None:
    with service.opened() as treasury:
        token = treasury.create_api_key("agent", "research-agent", by="olga").token
        auditor = treasury.create_api_key("auditor", "ann", by="olga").token
    worker, metrics_url = service.watched_worker()
    server, url = service.serve("--metrics-port", "0", COORDINATOR_LOG_FORMAT="json")

    with client(url, token) as agent, client(url, auditor) as reader, client(url) as nobody:
        assert nobody.get("/healthz").json() == {"status": "ok"}
        asked = agent.post(
            "/v1/purchases",
            params={"wait": "funded", "timeout": 30},
            headers={"Idempotency-Key": "papers-1"},
            json=TERMS | {"purpose": "planted-purpose"},
        )
        assert asked.json()["status"] == "funded", asked.text
        denied = agent.post(
            "/v1/purchases",
            headers={"Idempotency-Key": "papers-2"},
            json=TERMS | {"provider": "0x" + "11" * 20},
        )
        assert denied.json()["status"] == "denied"

        wrong = {"Authorization": f"Bearer uec_{'0' * 20}_{'ab' * 32}"}
        assert nobody.get("/v1/purchases?planted-query=1", headers=wrong).status_code == 401
        planted = {"Idempotency-Key": "planted-key", "Content-Type": "application/json"}
        assert agent.post("/v1/purchases", headers=planted, content="planted-body").is_error
        assert agent.get("/v1/purchases/planted-path").is_error
        with service.opened() as treasury:
            assert treasury.reconcile().discrepancies == ()

        ready = nobody.get("/readyz")
        assert ready.status_code == 200, ready.text
        checks = ready.json()["checks"]
        assert set(checks) == {"database", "schema", "worker", "chain"}
        assert all(check["ok"] for check in checks.values())
        assert checks["chain"]["block"] > 0

        assert nobody.get("/metrics").status_code == 401
        assert agent.get("/metrics").status_code == 403
        served = reader.get("/metrics").text
        worker_told = httpx.get(metrics_url, trust_env=False).text

    everything = exposed(served) | exposed(worker_told)
    assert used(dashboard_queries()) <= everything
    assert used(alert_queries()) <= everything
    mine = {name for name in everything if name.startswith("coordinator_")}
    assert {n for n in mine if not n.endswith(("_count", "_sum", "_created"))} - used(
        dashboard_queries()
    ) == {"coordinator_cursor_block"}
    told = values(served)
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
    assert values(worker_told)["coordinator_rpc_calls_total", ("eth_sendRawTransaction",)] >= 2

    heard = service.heard(server).text
    access = [json.loads(line) for line in heard.splitlines() if line.startswith("{")]
    assert {"/v1/purchases", "/v1/purchases/{purchase_id}"} <= {
        line.get("route") for line in access
    }
    secrets = [token, auditor, token.rpartition("_")[2], auditor.rpartition("_")[2], "ab" * 32]
    secrets += [service.deciding["COORDINATOR_ID_SECRET"], "planted"]
    assert [secret for secret in secrets if secret in heard] == []

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
