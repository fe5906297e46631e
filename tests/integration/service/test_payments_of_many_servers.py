"""Ten servers ask one worker for payments, the database a millisecond away: exact all the same."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest

from coordinator.chain.signers.opening import load_signer
from tests.integration.service.processes import Service
from tests.integration.service.slow_line import slow_line
from tests.integration.stores import on_postgresql

pytestmark = [on_postgresql, pytest.mark.campaign]

SERVERS: Final = 10
AGENTS: Final = [f"agent-{number}" for number in range(20)]
EACH: Final = 10
# 0.05 USDC a request: half of what is asked fits into the session.
UNITS: Final = 50_000
FITS: Final = len(AGENTS) * EACH // 2
HOST: Final = "papers.example"

_POLICY = f"""
[organisation]
total_limit = "unlimited"
daily_limit = "unlimited"
[providers.paper-api]
address = "{{provider}}"
hosts = ["{HOST}"]
[x402]
per_session_limit = "{FITS * UNITS / 1_000_000:.2f}"
[approvals]
approvers = ["alice"]
"""
_AGENT = """
[agents.{name}]
per_purchase_limit = "1"
total_limit = "unlimited"
approval_threshold = "unlimited"
"""


def _answer(service: Service) -> dict[str, Any]:
    offer = {
        "scheme": "exact",
        "network": f"eip155:{service.chain.deployment.chain_id}",
        "asset": service.chain.deployment.usdc,
        "amount": str(UNITS),
        "payTo": service.chain.provider,
        "maxTimeoutSeconds": 60,
    }
    return {"x402Version": 2, "accepts": [offer]}


def _ask(url: str, token: str, answer: dict[str, Any], key: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    body = {"answer": answer, "url": f"https://{HOST}/7", "session": "s-1"}
    with httpx.Client(headers=headers, timeout=90, trust_env=False) as client:
        while True:
            told = client.post(f"{url}/v1/x402/authorisations", json=body, params={"timeout": 30})
            found: dict[str, Any] = told.json()
            assert told.status_code == 200, found
            if found["payment"] is not None or found["purchase"]["status"] == "denied":
                return found


def test_ten_servers_never_pay_beyond_a_limit_nor_twice(service: Service) -> None:
    key = "0x" + secrets.token_hex(32)
    wallet = load_signer("env:KEY", {"KEY": key}).address
    service.acting |= {"COORDINATOR_X402_SIGNER": "env:X402_KEY", "X402_KEY": key}
    service.deciding |= {"COORDINATOR_X402_SIGNER": f"address:{wallet}"}
    service.chain.fund(wallet, usdc="100", wei=0)
    text = _POLICY.format(provider=service.chain.provider)
    text += "".join(_AGENT.format(name=name) for name in AGENTS)
    (service.folder / "policy.toml").write_text(text)
    with service.opened() as coordinator:
        tokens = [coordinator.create_api_key("agent", n, by="root").token for n in AGENTS]
    service.worker()
    answer, database = _answer(service), service.deciding["COORDINATOR_DATABASE_URL"]
    with slow_line(database, seconds=0.0005) as url, ThreadPoolExecutor(len(AGENTS)) as pool:
        servers = [service.serve(COORDINATOR_DATABASE_URL=url)[1] for _ in range(SERVERS)]
        others = itertools.cycle(servers[1:] + servers[:1])

        def buy(number: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
            told = []
            for one in range(EACH):
                given = (tokens[number], answer, f"{number}/{one}")
                first = _ask(servers[(number + one) % SERVERS], *given)
                told.append((first, _ask(next(others), *given)))
            return told

        told = [pair for found in pool.map(buy, range(len(AGENTS))) for pair in found]
    assert all(first["payment"] == again["payment"] for first, again in told)
    statuses = Counter(first["purchase"]["status"] for first, _ in told)
    assert statuses == {"approved": FITS, "denied": len(AGENTS) * EACH - FITS}
    paid = [first["payment"]["payload"]["authorization"] for first, _ in told if first["payment"]]
    assert len({one["nonce"] for one in paid}) == FITS
    assert {one["value"] for one in paid} == {str(UNITS)}
    with service.opened() as coordinator:
        rows = coordinator.wiring.audit.rows(0)
        assert sum(row["event"] == "x402_signed" for row in rows) == FITS
        assert coordinator.wiring.verify_audit().ok
