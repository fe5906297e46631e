"""Only agents' keys pass the door of /mcp, at the service's own name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

from coordinator.monitoring.logs import request_ids
from coordinator.server import mcp as door
from tests.integration.mcp.hosts import PAPER, Host, over_http, over_stdio, play
from tests.integration.service.simulated import SimulatedService, simulated_service

_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-06-18",
}
PUBLIC = "https://pay.example.org"


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.fixture
def public() -> Iterator[SimulatedService]:
    """A service that answers at its public name alone."""
    with simulated_service(public_url=PUBLIC) as made:
        yield made


def post(
    url: str,
    key: str | None,
    tool: str,
    *,
    id: int = 1,
    request_id: str = "",
    **arguments: Any,
) -> httpx.Response:
    """One call of a tool, as an older client sends it."""
    asked = {"name": tool, "arguments": arguments}
    headers = _HEADERS | ({"Authorization": f"Bearer {key}"} if key else {})
    headers |= {"X-Request-Id": request_id} if request_id else {}
    return httpx.post(
        f"{url}/mcp",
        json={"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": asked},
        headers=headers,
        trust_env=False,
        timeout=60,
    )


def test_requests_of_two_clients_with_one_id_get_their_own_answers(
    service: SimulatedService,
) -> None:
    def buy(role: str) -> Any:
        terms = {**PAPER, "reference": "same", "wait_seconds": 30}
        return post(service.url, service.tokens[role], "request_purchase", **terms).json()

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(buy, ["agent", "other"] * 4))

    assert {answer["id"] for answer in told} == {1}
    bought = [answer["result"]["structuredContent"]["purchase_id"] for answer in told]
    agents = [service.coordinator.get(purchase_id).agent for purchase_id in bought]
    assert agents == ["research-agent", "data-agent"] * 4
    assert len(set(bought)) == 2


@pytest.mark.parametrize("key", [None, "uec_0123456789abcdef", "nonsense"])
def test_without_a_key_that_counts_nothing_is_answered(
    service: SimulatedService, key: str | None
) -> None:
    told = post(service.url, key, "budget_status")
    assert (told.status_code, told.json()["code"]) == (401, "unauthenticated")
    assert told.json()["detail"] == "show an API key that counts, as Authorization: Bearer uec_…"
    assert told.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", ["approver", "operator", "auditor"])
def test_a_key_of_another_role_does_not_pass(service: SimulatedService, role: str) -> None:
    told = post(service.url, service.tokens[role], "budget_status")
    assert (told.status_code, told.json()["code"]) == (403, "forbidden")


def test_over_stdio_another_roles_key_is_told_in_a_sentence(service: SimulatedService) -> None:
    async def story(host: Host) -> None:
        said = await host.refused("request_purchase", reference="r", **PAPER)
        assert said.startswith("Not done (forbidden): ") and said.count("\n") == 0

    play(over_stdio(service.url, service.tokens["approver"]), story)


def test_a_revoked_key_ends_in_the_next_call(service: SimulatedService) -> None:
    made = service.coordinator.create_api_key("agent", "research-agent", by="root")

    async def story(host: Host) -> None:
        await host.call("budget_status")
        service.coordinator.revoke_api_key(made.key.id, by="root")
        said = await host.refused("budget_status")
        assert said.startswith("Not done (unauthenticated): ")

    play(over_stdio(service.url, made.token), story)
    assert post(service.url, made.token, "budget_status").status_code == 401


def test_a_foreign_host_is_misdirected(service: SimulatedService) -> None:
    with service.client() as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "[::1", ""):
            told = client.post("/mcp", json={}, headers={**_HEADERS, "Host": host})
            assert (told.status_code, told.json()["code"]) == (421, "misdirected_request"), host
        told = client.post("/mcp", json={}, headers={**_HEADERS, "Origin": "https://evil.example"})
        assert told.status_code == 403


def test_a_service_with_a_public_url_answers_there_alone(public: SimulatedService) -> None:
    key = public.tokens["agent"]
    assert post(public.url, key, "budget_status").status_code == 421

    async def story(host: Host) -> None:
        approval = (await host.buy("big", amount="75.00"))["approval"]
        assert approval["link"] == f"{PUBLIC}/v1/approvals/{approval['approval_id']}"

    play(over_http(public.url, key, Host="pay.example.org"), story)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_no_session_to_follow_or_to_end(service: SimulatedService, method: str) -> None:
    with service.client() as client:
        told = client.request(method, "/mcp", headers=_HEADERS)
        assert (told.status_code, told.headers["Allow"]) == (405, "POST")


def test_bodies_are_limited_as_everywhere(service: SimulatedService) -> None:
    with service.client() as client:
        told = client.post("/mcp", json={"x": "x" * 70_000}, headers=_HEADERS)
        assert (told.status_code, told.json()["code"]) == (413, "too_large")


def test_calls_count_in_the_rate_of_their_key(service: SimulatedService) -> None:
    slow = service.app.state.rates
    service.app.state.rates = type(slow)(1)
    try:
        found = [post(service.url, service.tokens["agent"], "list_providers") for _ in range(2)]
        assert 429 in [told.status_code for told in found]
    finally:
        service.app.state.rates = slow


def test_requests_are_observed_by_their_route(service: SimulatedService) -> None:
    post(service.url, service.tokens["agent"], "list_providers")
    with service.client("operator") as client:
        assert 'route="/mcp"' in client.get("/metrics").text


def test_without_its_extra_there_is_no_such_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "find_spec", _without("mcp"))
    with simulated_service() as made, made.client() as client:
        assert client.post("/mcp", json={}, headers=_HEADERS).status_code == 404
        assert client.get("/v1/me").status_code == 200


def _without(missing: str) -> Callable[[str], object]:
    return lambda name: None if name == missing else object()


def test_hosts_of_one_process_do_not_share_an_agent(service: SimulatedService) -> None:
    names = {}

    async def ask(role: str) -> None:
        async with over_http(service.url, service.tokens[role]) as host:
            names[role] = await _name(host)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            for role in ("agent", "other"):
                group.start_soon(ask, role)

    anyio.run(both)
    assert names == {"agent": "research-agent", "other": "data-agent"}


async def _name(host: Host) -> str:
    name: str = (await host.call("budget_status"))["agent"]
    return name


def test_tools_that_can_not_be_served_leave_the_rest_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: door.Mcp) -> None:
        raise ImportError("half an installation")

    monkeypatch.setattr(door.Mcp, "_make", broken)
    with simulated_service() as made, made.client() as client:
        for _ in range(2):
            told = client.post("/mcp", json={}, headers=_HEADERS)
            assert (told.status_code, told.json()["code"]) == (503, "unavailable")
        assert client.get("/v1/me").status_code == 200


def test_what_a_tool_asks_is_logged_under_the_id_of_its_call(service: SimulatedService) -> None:
    logged: set[str] = set()
    # The call itself is logged after it was answered.
    whole = threading.Event()

    class Reading(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ids = request_ids()
            if ids is not None and ids.request_id == told_id:
                logged.add(record.fields["route"])  # type: ignore[attr-defined]
                if "/mcp" in logged:
                    whole.set()

    told_id, handler = "trace-of-a-tool", Reading()
    logger = logging.getLogger("coordinator.server.observing")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        post(service.url, service.tokens["agent"], "list_providers", request_id=told_id)
        assert whole.wait(30)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

    assert logged == {"/mcp", "/v1/me/policy"}
