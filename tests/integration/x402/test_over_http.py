"""Agents that pay over HTTP: a server without a key, a worker with one, and the official shop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from coordinator.domain.usdc import Usdc
from coordinator_client import Agent, AsyncAgent, InvalidRequest
from coordinator_client.x402 import PayingSession, PaymentDenied, PaymentUnknown, paid, paying
from tests.integration.local_chain import LocalChain
from tests.integration.mcp.hosts import Host, over_stdio, play
from tests.integration.stores import SqliteStore, by_default
from tests.integration.x402 import facilitator, shop
from tests.integration.x402.bench import PRICE
from tests.integration.x402.facilitator import Facilitator
from tests.integration.x402.served import RUN_LIMIT, PayingService
from tests.integration.x402.shop import Books, Offer, Shop

_AGENTS = ("research-agent", "data-agent")


class Running(NamedTuple):
    """A service with a worker and a server, and an open shop."""

    service: PayingService
    url: str
    tokens: dict[str, str]
    shop: Shop
    #: Another host that the policy knows, for a shop in a process of its own.
    spare: tuple[socket.socket, str]

    def agent(self, name: str = _AGENTS[0]) -> Agent:
        return Agent(self.url, self.tokens[name])

    @property
    def paper(self) -> str:
        return f"{self.shop.url}/paid"


@pytest.fixture(scope="module")
def running(
    _deployed_chain: LocalChain, _migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    chain, folder = _deployed_chain, tmp_path_factory.mktemp("x402")
    store = SqliteStore(folder, _migrated_file)
    with shop.listening() as on, shop.listening() as spare:
        service = PayingService(chain, folder, store.migrated(store.url()), on[1], spare[1])
        price = str(PRICE.base_units)
        sold = {
            "paid": Offer(price, chain.provider, chain.deployment.usdc),
            "dear": Offer("1000001", chain.provider, chain.deployment.usdc),
            "token": Offer(price, chain.provider, chain.deployment.kernel),
            "stranger": Offer(price, chain.stranger, chain.deployment.usdc),
        }
        try:
            with service.opened() as treasury:
                made = [treasury.create_api_key("agent", name, by="root") for name in _AGENTS]
            tokens = {name: key.token for name, key in zip(_AGENTS, made, strict=True)}
            service.worker()
            url = service.serve()[1]
            with shop.opened(on, Facilitator(chain), **sold) as opened:
                yield Running(service, url, tokens, opened, spare)
        finally:
            service.close()
            chain.reset()


@pytest.fixture
def books(running: Running, _deployed_chain: LocalChain) -> Books:
    running.shop.facilitator.fault = facilitator.HONEST
    running.shop.facilitator.nonces.clear()
    return Books.begin(_deployed_chain, running.service.wallet)


def test_a_session_of_requests_pays_once(running: Running, books: Books) -> None:
    with running.agent() as agent, agent.x402_client() as session:
        with paying(idempotency_key="sync-1", purpose="one paper", task="t-0"):
            got = session.get(running.paper)
        bought = agent.get(idempotency_key="sync-1")

    assert got.json()["paper"] == "x402"
    assert (str(bought.amount), bought.purpose, bought.task) == ("0.50", "one paper", "t-0")
    told = paid(got)
    assert told is not None and told.purchase_id == bought.id
    assert books.payments() == [(running.service.chain.provider, PRICE)]


def test_a_client_of_httpx_pays_once(running: Running, books: Books) -> None:
    async def buy() -> Any:
        async with (
            AsyncAgent(running.url, running.tokens[_AGENTS[0]]) as agent,
            agent.x402_client() as http,
        ):
            terms = {"idempotency_key": "async-1", "purpose": "one paper"}
            got = await http.post(running.paper, json={"a": 1}, extensions={"x402": terms})
            return got, await agent.get(idempotency_key="async-1")

    got, bought = asyncio.run(buy())
    assert got.json()["paper"] == "x402"
    told = paid(got)
    assert told is not None and told.purchase_id == bought.id
    assert books.payments() == [(running.service.chain.provider, PRICE)]


def test_the_guides_program_pays(running: Running, books: Books, monkeypatch: Any) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "x402.md").read_text()
    program = re.findall(r"```python\n(import os.*?)```", guide, re.DOTALL)[0]
    monkeypatch.setenv("TREASURY_URL", running.url)
    monkeypatch.setenv("TREASURY_KEY", running.tokens[_AGENTS[0]])
    told: list[Any] = []
    names = {"print": lambda *values: told.extend(values)}
    exec(program.replace("https://papers.example.com/papers/7", running.paper), names)

    assert told[0] == 200 and told[1].idempotency_key == "task-42/paper-7"
    assert books.payments() == [(running.service.chain.provider, PRICE)]


@pytest.mark.parametrize("run", by_default(["task", "session"], ["task"]))
def test_many_at_once_never_pass_a_limit(run: str, running: Running, books: Books) -> None:
    before, most = running.service.signatures(), Usdc(RUN_LIMIT).base_units // PRICE.base_units

    def buy(number: int) -> int:
        with (
            running.agent(_AGENTS[number % 2]) as agent,
            agent.x402_client() as session,
            paying(**{run: f"{run}-{number % 2}"}),
        ):
            try:
                return session.get(running.paper).status_code
            except PaymentDenied as denied:
                assert denied.purchase.denied and not denied.money_moved
                return 0

    with ThreadPoolExecutor(14) as threads:
        got = list(threads.map(buy, range(14)))

    assert sorted(got) == [0] * (14 - 2 * most) + [200] * (2 * most)
    assert running.service.signatures() == before + 2 * most
    assert books.payments() == [(running.service.chain.provider, PRICE)] * (2 * most)


@pytest.mark.parametrize(
    ("path", "error"),
    [("dear", PaymentDenied), ("stranger", PaymentDenied), ("token", InvalidRequest)],
)
def test_what_is_refused_is_not_signed(
    path: str, error: type[Exception], running: Running, books: Books
) -> None:
    before = running.service.signatures()
    with running.agent() as agent, agent.x402_client() as session, pytest.raises(error):
        session.get(f"{running.shop.url}/{path}")

    assert running.service.signatures() == before
    assert (running.shop.facilitator.nonces, books.payments()) == ([], [])


def test_a_lost_answer_is_asked_again_with_the_same_payment(running: Running, books: Books) -> None:
    running.shop.facilitator.fault = facilitator.BAD_GATEWAY
    before = running.service.signatures()
    with running.agent() as agent, agent.x402_client() as session:
        with pytest.raises(PaymentUnknown) as lost:
            session.get(running.paper)
        running.shop.facilitator.fault = facilitator.HONEST
    assert lost.value.idempotency_key is not None
    with (
        running.agent() as agent,
        agent.x402_client() as session,
        paying(idempotency_key=lost.value.idempotency_key),
    ):
        assert session.get(running.paper).status_code == 200

    assert running.service.signatures() == before + 1
    assert books.payments() == [(running.service.chain.provider, PRICE)]


def test_a_model_pays_over_mcp(running: Running, books: Books) -> None:
    before = running.service.signatures()

    async def story(host: Host) -> None:
        tools = {tool.name: tool for tool in (await host.client.list_tools()).tools}
        assert "reference" in tools["pay_x402"].input_schema["required"]
        asked = {"url": running.paper, "purpose": "one paper"}
        running.shop.facilitator.fault = facilitator.ASKS_TWICE
        lost = await host.refused("pay_x402", reference="m-1", **asked)
        assert "same reference 'm-1'" in lost and "payment_not_taken" in lost
        running.shop.facilitator.fault = facilitator.HONEST
        other = await host.refused("pay_x402", reference="m-2", **asked)
        assert "the reference 'm-1'" in other and "again=true" in other
        got = await host.call("pay_x402", reference="m-1", **asked)
        assert (got["status"], got["paid"]) == (200, True)
        assert "x402" in got["body"] and got["purchase"]["amount_usdc"] == "0.50"
        assert (await host.call("pay_x402", reference="m-2", again=True, **asked))["paid"]
        dear = {"reference": "m-3", "url": f"{running.shop.url}/dear"}
        assert "Denied" in await host.refused("pay_x402", **dear)
        free = await host.call("pay_x402", reference="m-4", url=f"{running.shop.url}/free")
        assert (free["status"], free["paid"], free["purchase"]) == (200, False, None)

    play(over_stdio(running.url, running.tokens[_AGENTS[0]]), story)
    assert running.service.signatures() == before + 2
    assert books.payments() == [(running.service.chain.provider, PRICE)] * 2


@pytest.mark.campaign
def test_a_model_that_asks_twice_at_once_pays_once(running: Running, books: Books) -> None:
    before = running.service.signatures()

    async def story(host: Host) -> None:
        url = f"{running.paper}?at=once"
        found = []

        async def ask(reference: str) -> None:
            found.append(
                await host.client.call_tool("pay_x402", dict(reference=reference, url=url))
            )

        async with anyio.create_task_group() as both:
            both.start_soon(ask, "o-1")
            both.start_soon(ask, "o-2")
        assert sorted(bool(one.is_error) for one in found) == [False, True]
        # What was refused is nothing that was paid: the first reference goes on.
        assert "again=true" in await host.refused("pay_x402", reference="o-3", url=url)

    play(over_stdio(running.url, running.tokens[_AGENTS[0]]), story)
    assert running.service.signatures() == before + 1
    assert books.payments() == [(running.service.chain.provider, PRICE)]


@pytest.mark.campaign
def test_killed_processes_sign_one_payment(
    chain: LocalChain, store: SqliteStore, tmp_path: Path
) -> None:
    offer = Offer(str(PRICE.base_units), chain.provider, chain.deployment.usdc)
    with shop.listening() as on:
        service = PayingService(chain, tmp_path, store.migrated(store.url()), on[1])
        books, settling = Books.begin(chain, service.wallet), Facilitator(chain)
        settling.fault = facilitator.BAD_GATEWAY
        token = service.key("agent", _AGENTS[0])

        def buy(url: str) -> int:
            with (
                Agent(url, token) as agent,
                PayingSession(agent, signature_seconds=0) as session,
                paying(idempotency_key="k-1"),
            ):
                return session.get(f"{selling.url}/paid").status_code

        try:
            with shop.opened(on, settling, offer) as selling:
                server, url = service.serve()
                with pytest.raises(PaymentUnknown) as held:
                    buy(url)
                assert held.value.valid_before is None and service.signatures() == 0
                server.kill()

                worker, (server, url) = service.worker(), service.serve()
                with pytest.raises(PaymentUnknown) as signed:
                    buy(url)
                assert signed.value.valid_before is not None
                worker.kill()
                server.kill()

                service.worker()
                settling.fault = facilitator.HONEST
                assert buy(service.serve()[1]) == 200
        finally:
            service.close()

    assert len(settling.nonces) == 2 and len(set(settling.nonces)) == 1
    assert (service.signatures(), books.payments()) == (1, [(chain.provider, PRICE)])


@pytest.mark.campaign
def test_the_whole_battery_of_hostile_facilitator(
    running: Running, tmp_path: Path, books: Books
) -> None:
    """Its command runs a buyer of ours once for each mode; holding is not yet proof for it."""
    found = tmp_path / "result.json"
    root = Path(__file__).parents[3]
    waiting, host = running.spare
    waiting.close()
    command = [str(Path(sys.executable).with_name("hostile-facilitator")), "test"]
    command += ["--client-timeout", "3", "--json", str(found)]
    command += ["--", sys.executable, "-m", "tests.integration.x402.pay_once"]
    told = {
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "client"))),
        "TREASURY_URL": running.url,
        "TREASURY_KEY": running.tokens[_AGENTS[0]],
        "SHOP_HOST": host,
        "SHOP_PAYEE": running.service.chain.provider,
        "SHOP_USDC": running.service.chain.deployment.usdc,
    }
    done = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(found.read_text())
    paid_once = {one["mode"]: one["distinct"] for one in said["results"]}
    assert (paid_once["clean"], paid_once["declared_safe"]) == (1, 1)
    assert said["summary"]["double_paying_modes"] == []
    assert all(mode.startswith("reconcile_") for mode in said["summary"]["not_exercised_modes"])
    assert len(said["summary"]["not_exercised_modes"]) == 4
    assert said["summary"]["safe"] == 6
