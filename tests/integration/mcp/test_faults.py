"""Lost answers, restarts and reconnections between calls never pay twice."""

from __future__ import annotations

import re
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client

from coordinator_client import AsyncAgent
from coordinator_client.mcp.server import make_server
from tests.integration.mcp.hosts import PAPER, Host, over_http, over_stdio, play
from tests.integration.service.lossy_proxy import BAD_GATEWAY, SWALLOW, LossyProxy
from tests.integration.service.processes import Service
from tests.integration.service.simulated import SimulatedService, simulated_service
from tests.integration.stores import on_either


@pytest.fixture
def simulated() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


def test_an_answer_lost_on_the_way_is_asked_for_again(simulated: SimulatedService) -> None:
    with LossyProxy(simulated.url).serving() as proxy:

        async def story(host: Host) -> None:
            proxy.lose(SWALLOW, times=2)
            assert (await host.buy("papers"))["status"] == "funded"

        play(over_stdio(proxy.url, simulated.tokens["agent"]), story)
        assert proxy.lost == 2
    assert len(simulated.coordinator.purchases()) == 1


@asynccontextmanager
async def impatient(url: str, key: str) -> AsyncIterator[Host]:
    """A host in this process whose agent gives up soon."""
    async with AsyncAgent(url, key, timeout_seconds=0.2) as agent:

        @asynccontextmanager
        async def agents(_: Any) -> AsyncIterator[AsyncAgent]:
            yield agent

        async with Client(make_server(agents)) as client:
            yield Host(client)


def test_when_no_answer_comes_the_same_reference_is_asked_for(
    simulated: SimulatedService,
) -> None:
    with LossyProxy(simulated.url).serving() as proxy:

        async def story(host: Host) -> None:
            for tool, more in (
                ("request_purchase", {**PAPER, "wait_seconds": 0}),
                ("record_cost", {"amount": "1.00"}),
                ("request_limit_increase", {"amount": "1.00", "reason": "more"}),
            ):
                proxy.lose(BAD_GATEWAY, times=None)
                said = await host.refused(tool, reference="one", **more)
                assert said == (
                    "The answer was lost, so it is not known whether this was done: call"
                    f" {tool} again with the same arguments and the same reference 'one', which"
                    " never counts twice, and with no other reference."
                )
                proxy.heal()
                done = await host.call(tool, reference="one", **more)
                assert done["status"] in ("approved", "created", "funded", "posted", "waiting")

        play(impatient(proxy.url, simulated.tokens["agent"]), story)
    assert len(simulated.coordinator.purchases()) == 1
    assert len(simulated.coordinator.increases(waiting=False)) == 1


def test_a_service_that_is_not_there_is_told_as_such(simulated: SimulatedService) -> None:
    simulated.stop()

    async def story(host: Host) -> None:
        said = await host.refused("budget_status")
        assert re.match(r"Not done \(unavailable\): .*did not answer", said), said
        assert said.count("\n") == 0

    play(impatient(simulated.url, simulated.tokens["agent"]), story)


@on_either
@pytest.mark.campaign
def test_a_host_outlives_its_service_and_pays_once(service: Service) -> None:
    with service.opened() as coordinator:
        key = coordinator.create_api_key("agent", "research-agent", by="root").token
    port = _free_port()
    url = f"http://127.0.0.1:{port}"

    def serve() -> subprocess.Popen[str]:
        return service.start(
            "serve", "--with-worker", "--port", str(port), environment=service.acting
        )

    process = serve()

    async def story(host: Host) -> None:
        nonlocal process
        bought = await host.buy("papers", wait_seconds=45)
        assert bought["status"] == "funded"
        process.kill()
        process.wait()
        process = serve()
        again = await host.buy("papers")
        assert (again["purchase_id"], again["duplicate_of"]) == (bought["purchase_id"], None)
        other = await host.buy("in-other-words")
        assert other["duplicate_of"] == bought["purchase_id"]

    async def many() -> Counter[str]:
        found: Counter[str] = Counter()

        async def ask(number: int) -> None:
            async with over_http(url, key) as host:
                told = await host.buy(f"ref-{number}", amount="7.00", wait_seconds=0)
                found[told["purchase_id"]] += 1
                found["made"] += told["duplicate_of"] is None

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(ask, number)
        return found

    async def reconnected(host: Host) -> None:
        assert (await host.buy("papers"))["duplicate_of"] is None

    play(over_stdio(url, key), story)
    play(over_http(url, key), reconnected)
    found = anyio.run(many)

    made = found.pop("made")
    assert (made, list(found.values())) == (1, [10])
    with service.opened() as coordinator:
        assert sorted(str(one.amount) for one in coordinator.purchases()) == ["5.00", "7.00"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
