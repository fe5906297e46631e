"""Fifty agents on one pool through four servers, of which some are killed: exact all the same."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from coordinator.domain.policy.text import parse_policy
from tests.integration.service.processes import Service
from tests.integration.stores import on_either

pytestmark = on_either

AGENTS = [f"agent-{number:02}" for number in range(50)]
SERVERS = 4
ASKED_EACH = 4
# Half of what is asked fits.
POOL = len(AGENTS) * ASKED_EACH // 2
_TRIES = 200

_POLICY = f"""
[organisation]
total_limit = "unlimited"
daily_limit = "unlimited"
[pools.readers]
agents = {AGENTS!r}
total_limit = "{POOL}"
[providers.paper-api]
address = "{{provider}}"
service = "papers"
[approvals]
approvers = ["alice"]
"""
_AGENT = """
[agents.{name}]
per_purchase_limit = "10"
total_limit = "unlimited"
approval_threshold = "unlimited"
"""


@pytest.fixture
def crowd(service: Service) -> Iterator[dict[str, str]]:
    """A token for each agent of the pool."""
    text = _POLICY.format(provider=service.chain.provider)
    text += "".join(_AGENT.format(name=name) for name in AGENTS)
    parse_policy(text)
    (service.folder / "policy.toml").write_text(text)
    with service.opened() as coordinator:
        yield {name: coordinator.create_api_key("agent", name, by="root").token for name in AGENTS}


class Buyers:
    """Agents that ask again with the same key, at another server, until they are answered."""

    def __init__(self, urls: list[str], tokens: dict[str, str]) -> None:
        self.urls = urls
        self._tokens = tokens
        self.answered = threading.Semaphore(0)

    def buy(self, name: str) -> list[str]:
        """Ask for the agent's purchases one by one; the status of each."""
        headers = {"Authorization": f"Bearer {self._tokens[name]}"}
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
            return [self._ask(client, f"{name}/{number}") for number in range(ASKED_EACH)]

    def _ask(self, client: httpx.Client, key: str) -> str:
        terms = {"provider": "paper-api", "amount": "1.00", "purpose": key}
        start = hash(key) % SERVERS
        for server in itertools.islice(itertools.cycle(range(SERVERS)), start, start + _TRIES):
            try:
                told = client.post(
                    f"{self.urls[server]}/v1/purchases",
                    json=terms,
                    headers={"Idempotency-Key": key},
                )
            except httpx.TransportError:
                continue
            if told.status_code == 200:
                self.answered.release()
                status: str = told.json()["status"]
                return status
            assert told.status_code == 503, told.text
        raise AssertionError(f"nobody answered {key}")


def test_the_pool_is_exact_while_servers_and_the_worker_are_killed(
    service: Service, crowd: dict[str, str]
) -> None:
    worker = service.worker()
    servers = [service.serve() for _ in range(SERVERS)]
    buyers = Buyers([url for _, url in servers], crowd)
    with ThreadPoolExecutor(len(AGENTS)) as pool:
        asking = pool.map(buyers.buy, AGENTS)
        for part in range(1, 4):
            for _ in range(len(AGENTS) * ASKED_EACH // 5):
                assert buyers.answered.acquire(timeout=60)
            if part == 2:
                worker.kill()
            else:
                servers[part][0].kill()
                servers[part] = service.serve()
                buyers.urls[part] = servers[part][1]
        told = Counter(status for statuses in asking for status in statuses)
    assert told["denied"] == len(AGENTS) * ASKED_EACH - POOL
    assert sum(told.values()) == len(AGENTS) * ASKED_EACH

    service.worker()
    with service.opened() as coordinator:
        bought = [p for p in coordinator.purchases(limit=1000) if not p.denied]
        assert len(bought) == POOL
        for purchase in bought:
            assert coordinator.wait_for(purchase.id, timeout_seconds=60).status == "funded"
        spent = [s for s in coordinator.limits(AGENTS[0]) if str(s.limit.scope) == "pool:readers"]
        assert [(str(s.usage.held), str(s.remaining)) for s in spent] == [(f"{POOL}.00", "0.00")]
        assert coordinator.reconcile().discrepancies == ()
        assert coordinator.wiring.verify_audit().ok
