"""``scripts/bench http``: a decision over loopback HTTP beside the same one in this process.

A ``coordinator serve`` without a key, on a database of its own; another treasury's database is
decided on in this process, turn by turn. Afterwards many long polls wait for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from coordinator.ledger.audit.host_key import HostKey
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import FOLDER, Tell, elapsed, kinds, positive, show_ratios, show_rows
from tests.benchmarks.course import AGENTS, AMOUNT, CATEGORY, buy
from tests.benchmarks.databases import fresh_databases
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.idle import processor_seconds
from tests.benchmarks.machine import described
from tests.benchmarks.scene import Scene, Treasury, for_child, open_coordinator, open_scene
from tests.integration.service.processes import Heard

PAIRS: Final = 1_000
QUICK_PAIRS: Final = 300
POLLS: Final = 500
# Polls are counted once they all wait, and end together afterwards.
_POLL_SECONDS: Final = 40
_BEGIN_SECONDS: Final = 20.0
_WAIT_SECONDS: Final = 5.0
_SERVING: Final = re.compile(r"serving (http://\S+) for")
_WARM: Final = 20

TARGETS: Final[Mapping[str, Target]] = {
    "p50_over_in_process": Target(4),
    "polls_mb": Target(100),
    "polls_cpu_of_a_core": Target(0.05),
}
_MEANINGS: Final = {
    "p50_over_in_process": "p50 of a decision over HTTP / in this process",
    "polls_mb": "MB that 500 long polls add to an idle server",
    "polls_cpu_of_a_core": "processor of a server with 500 long polls, of a core",
}


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="SQLite only, fewer pairs")
    parser.add_argument(
        "--databases", type=kinds, default=["sqlite", "postgresql"], metavar="NAME,…"
    )
    parser.add_argument("--polls", type=positive(int), default=POLLS, metavar="N")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Measure each kind of database by itself."""
    databases = ["sqlite"] if arguments.quick else arguments.databases
    pairs = QUICK_PAIRS if arguments.quick else PAIRS
    by_database = {}
    with open_scene() as scene:
        for kind in databases:
            with _sides(scene, kind) as (server, in_process):
                found = _decisions(server, in_process, pairs)
                tell(f"{kind}: p50 {found['http_p50_ms']:.2f} ms over HTTP")
                found |= server.polls(arguments.polls)
                tell(f"{kind}: {arguments.polls} polls added {found['polls_mb']:.0f} MB")
            by_database[kind] = found
    return summary_of(by_database, arguments.polls)


def summary_of(by_database: Mapping[str, Mapping[str, Any]], polls: int) -> dict[str, Any]:
    """Summarise; of several databases the ratios are those of the one that is worse."""
    ratios = {name: max(found[name] for found in by_database.values()) for name in _MEANINGS}
    return {
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "by_database": by_database,
        "polls": polls,
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print the figures by database, and the ratios."""
    found = summary["by_database"]
    names = list(next(iter(found.values())))
    rows = [[name, *(f"{one[name]:,}" for one in found.values())] for name in names]
    show_rows("Over HTTP", ["figure", *found], rows)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Draw the median of a decision, both ways."""
    values: dict[str, dict[str, float | None]] = {
        kind: {"in process": found["in_process_p50_ms"], "HTTP": found["http_p50_ms"]}
        for kind, found in summary["by_database"].items()
    }
    return Chart("Milliseconds of a decision at the median", values)


@dataclass(slots=True)
class _Server:
    """A server's process, its URL, and a token for each agent."""

    process: subprocess.Popen[str]
    url: str
    tokens: Sequence[str]

    def client(self, agent: int) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self._headers(agent), trust_env=False)

    def _headers(self, agent: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[agent]}"}

    def polls(self, count: int) -> dict[str, Any]:
        """Measure the server while so many long polls wait for purchases that nobody moves on."""
        return asyncio.run(self._polls(count))

    async def _polls(self, count: int) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(
            base_url=self.url, limits=limits, timeout=2 * _POLL_SECONDS, trust_env=False
        ) as client:
            bought = [await self._buy(client, n % AGENTS, n) for n in range(AGENTS)]
            before = _resident_mb(self.process.pid)
            waits = [
                asyncio.create_task(self._poll(client, n % AGENTS, bought[n % AGENTS], n / count))
                for n in range(count)
            ]
            await asyncio.sleep(_BEGIN_SECONDS)
            most, spent = _resident_mb(self.process.pid), processor_seconds(self.process.pid)
            began = time.perf_counter()
            await asyncio.sleep(_WAIT_SECONDS)
            used = processor_seconds(self.process.pid) - spent
            waited = time.perf_counter() - began
            still = sum(not wait.done() for wait in waits)
            told = await asyncio.gather(*waits)
        if still < count or set(told) != {200}:
            raise RuntimeError(f"{still} of {count} waited, and were answered {set(told)}")
        return {
            "polls_mb": round(most - before, 1),
            "polls_cpu_of_a_core": round(used / waited, 4),
        }

    async def _buy(self, client: httpx.AsyncClient, agent: int, number: int) -> str:
        told = await client.post(
            "/v1/purchases",
            json=_terms(f"poll-{number}"),
            headers=self._headers(agent) | {"Idempotency-Key": f"poll-{number}"},
        )
        purchase: str = told.json()["purchase_id"]
        return purchase

    async def _poll(self, client: httpx.AsyncClient, agent: int, purchase: str, part: float) -> int:
        # Not all in one second: a key may ask a hundred times in it.
        await asyncio.sleep(part * _BEGIN_SECONDS / 2)
        told = await client.get(
            f"/v1/purchases/{purchase}",
            params={"wait": "final", "timeout": _POLL_SECONDS},
            headers=self._headers(agent),
        )
        return told.status_code


@contextmanager
def _sides(scene: Scene, kind: str) -> Iterator[tuple[_Server, Callable[[int], None]]]:
    """Open a server, and what decides in this process; each on a database of its own."""
    with ExitStack() as stack:
        names = [f"http_{kind}", f"in_process_{kind}"]
        urls = stack.enter_context(fresh_databases(kind, scene.folder, FOLDER, names))
        served, local = scene.treasuries(urls)
        environment = scene.environment(local, url=scene.url, public=True)
        coordinator = stack.enter_context(open_coordinator(environment, act=False))
        agents = [coordinator.agent(f"a{number}") for number in range(AGENTS)]

        def decide(number: int) -> None:
            buy(agents[number % AGENTS], f"task-{number // 20}", f"session-{number // 50}")

        server = stack.enter_context(_serve(scene, served))
        yield server, decide


@contextmanager
def _serve(scene: Scene, treasury: Treasury) -> Iterator[_Server]:
    environment = scene.environment(treasury, url=scene.url, public=True)
    with open_coordinator(environment, act=False) as coordinator:
        tokens = [
            coordinator.create_api_key("agent", f"a{number}", by="bench").token
            for number in range(AGENTS)
        ]
        key = HostKey.load(Path(environment["COORDINATOR_STATE_FOLDER"]) / "decider.hostkey")
        wiring = coordinator.wiring
        wiring.hosts.add("bench", key.public_key, by="bench", now=wiring.clock())
    del environment["TREASURY_PRIVATE_KEY"]
    environment["COORDINATOR_SIGNER"] = f"address:{treasury.address}"
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator", "serve", "--port", "0"],
        cwd=scene.folder,
        env=for_child(environment),
        stderr=subprocess.PIPE,
        text=True,
    )
    # It logs each request: somebody has to read that.
    heard = Heard(process)
    try:
        yield _Server(process, heard.wait_for(_SERVING), tokens)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _terms(name: str) -> dict[str, str]:
    return {
        "provider": "paper-api",
        "amount": AMOUNT,
        "purpose": "a paper on escrow",
        "category": CATEGORY,
        "task": name,
        "session": name,
    }


def _decisions(server: _Server, in_process: Callable[[int], None], pairs: int) -> dict[str, Any]:
    """Decide in turns both ways, one caller."""
    clients = [server.client(agent) for agent in range(AGENTS)]
    numbers = itertools.count()

    def over_http(number: int) -> None:
        told = clients[number % AGENTS].post(
            "/v1/purchases",
            json=_terms(f"name-{number // 20}"),
            headers={"Idempotency-Key": f"key-{next(numbers)}"},
        )
        if told.status_code != 200 or told.json()["status"] != "approved":
            raise RuntimeError(f"the benchmark's purchase was answered {told.text}")

    ways = {"in_process": in_process, "http": over_http}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(_WARM + pairs):
        for way, decide in ways.items():
            began = time.perf_counter()
            decide(number)
            if number >= _WARM:
                took[way].append(time.perf_counter() - began)
    for client in clients:
        client.close()
    p50 = {way: statistics.median(seconds) * 1000 for way, seconds in took.items()}
    return {
        "in_process_p50_ms": round(p50["in_process"], 3),
        "http_p50_ms": round(p50["http"], 3),
        "p50_over_in_process": round(p50["http"] / p50["in_process"], 2),
    }


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(shown.stdout) / 1024
