"""``scripts/bench idle``: what a worker with nothing to do costs, and how soon it notices.

A ``coordinator worker`` for each kind of database, with the settings of a public network, on a
chain that has a block every two seconds and nothing else. Afterwards a deposit comes, and
meanwhile, in processes of their own, so many wait for purchases that nobody moves on. At last
another process asks for a purchase.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator import Coordinator
from coordinator.domain.usdc import Usdc
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import FOLDER, Tell, elapsed, kinds, positive, show_ratios, show_rows
from tests.benchmarks.course import buy
from tests.benchmarks.databases import fresh_databases
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.machine import described
from tests.benchmarks.proxy import CountingProxy, Counts
from tests.benchmarks.scene import (
    BLOCK_SECONDS,
    Scene,
    Treasury,
    for_child,
    open_coordinator,
    open_scene,
)

SECONDS: Final = 60.0
QUICK_SECONDS: Final = 20.0
WAITERS: Final = 1_000
DAY: Final = 86_400
# After so long without a block that matters the worker is what it will be.
_SETTLE_SECONDS: Final = 3.0
_WAITERS_SECONDS: Final = 3.0
_SEND: Final = "eth_sendRawTransaction"
_DEPOSIT: Final = Usdc("25")
_ROOT: Final = Path(__file__).resolve().parents[2]

TARGETS: Final[Mapping[str, Target]] = {
    "calls_per_day": Target(20_000),
    "cpu_of_a_core": Target(0.02),
    "deposit_seconds": Target(15),
    "signed_within_seconds": Target(1),
    "waiters_cpu_of_a_core": Target(0.01),
    "waiters_cpu_of_a_core_asyncio": Target(0.01),
}
_MEANINGS: Final = {
    "calls_per_day": "JSON-RPC calls a day of an idle worker",
    "calls_per_block": "the same for each block of 2 s",
    "cpu_of_a_core": "processor of an idle worker, of a core",
    "deposit_seconds": "from a deposit's block until it is in the books, seconds",
    "signed_within_seconds": "from a purchase that another process asked until it is sent, seconds",
    "waiters_cpu_of_a_core": "processor of those that wait in threads, of a core",
    "waiter_begin_ms": "processor until one waits in a thread, ms",
    "waiters_cpu_of_a_core_asyncio": "processor of those that wait in an event loop, of a core",
    "waiter_begin_ms_asyncio": "processor until one waits in an event loop, ms",
}


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="SQLite only, 20 s of nothing")
    parser.add_argument(
        "--databases", type=kinds, default=["sqlite", "postgresql"], metavar="NAME,…"
    )
    parser.add_argument("--seconds", type=positive(float), default=SECONDS, help="of nothing")
    parser.add_argument("--waiters", type=positive(int), default=WAITERS, metavar="N")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Measure all databases at once: each worker has a proxy, a treasury and a process."""
    quick = arguments.quick
    databases = ["sqlite"] if quick else arguments.databases
    seconds = min(QUICK_SECONDS, arguments.seconds) if quick else arguments.seconds
    with ExitStack() as stack:
        scene = stack.enter_context(open_scene())
        waiters = _Waiters(scene.folder, arguments.waiters)
        workers = _workers(scene, databases, stack)
        scene.blocks_every(BLOCK_SECONDS)
        waiters.wait_until_ready()
        time.sleep(_SETTLE_SECONDS)
        tell(f"{seconds:g} s of nothing, {len(workers)} workers")
        idle = _idle(workers, seconds, scene)
        # Both let the processor rest, and a worker may take its time.
        waiters.begin()
        deposits = _deposits(scene, workers)
        waited = waiters.found()
        most = max(told["of_a_core"] for told in waited.values())
        tell(f"{arguments.waiters:,} waiters used {most:.1%} of a core at most")
        tell(f"a deposit was in the books after {max(deposits.values()):.2f} s at most")
        signed = _signed(scene, workers)
        tell(f"a purchase was sent after {max(signed.values()):.2f} s at most")
    by_database = {
        worker.kind: {
            **idle[worker.kind],
            "deposit_seconds": deposits[worker.kind],
            "signed_within_seconds": signed[worker.kind],
        }
        for worker in workers
    }
    return summary_of(by_database, waited, arguments.waiters)


def summary_of(
    by_database: Mapping[str, Mapping[str, Any]],
    waiters: Mapping[str, Mapping[str, float]],
    count: int,
) -> dict[str, Any]:
    """What is printed; of several databases the ratios are those of the one that is worse."""
    names = [name for name in _MEANINGS if name in next(iter(by_database.values()))]
    ratios = {name: max(found[name] for found in by_database.values()) for name in names}
    for way, suffix in (("threads", ""), ("asyncio", "_asyncio")):
        ratios[f"waiters_cpu_of_a_core{suffix}"] = round(waiters[way]["of_a_core"], 4)
        ratios[f"waiter_begin_ms{suffix}"] = round(waiters[way]["begin_ms_each"], 3)
    return {
        **ratios,
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "by_database": by_database,
        "waiters": count,
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def idle_figures(counts: Counts, processor: float, blocks: int, seconds: float) -> dict[str, Any]:
    """What came of ``seconds`` of nothing."""
    return {
        "calls_per_day": round(counts.calls / seconds * DAY),
        "calls_per_block": round(counts.calls / max(1, blocks), 2),
        "requests_per_day": round(counts.requests / seconds * DAY),
        "cpu_of_a_core": round(processor / seconds, 4),
        "blocks": blocks,
        "measured_seconds": round(seconds, 2),
        **counts.as_dict(),
    }


def show(summary: Mapping[str, Any]) -> None:
    """Print what was measured, by database and by method, and the ratios."""
    by_database = summary["by_database"]
    methods = sorted({m for found in by_database.values() for m in found["calls_by_method"]})
    rows = [
        [method, *(str(found["calls_by_method"].get(method, 0)) for found in by_database.values())]
        for method in methods
    ]
    seconds = max(found["measured_seconds"] for found in by_database.values())
    show_rows(f"Calls in {seconds:.0f} s of nothing", ["method", *by_database], rows)
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Calls a day beside one for each block, and the target."""
    label = "JSON-RPC calls a day"
    bars = {kind: found["calls_per_day"] for kind, found in summary["by_database"].items()}
    bars |= {"one a block": DAY // BLOCK_SECONDS, "target": int(TARGETS["calls_per_day"].bound)}
    values: dict[str, dict[str, float | None]] = {name: {label: bar} for name, bar in bars.items()}
    return Chart("What an idle worker asks", values, logarithmic=True)


@dataclass(slots=True)
class _Worker:
    """A worker's process, the proxy that it asks, and another process's view of its database."""

    kind: str
    treasury: Treasury
    proxy: CountingProxy
    process: subprocess.Popen[bytes]
    asker: Coordinator

    def alive(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker on {self.kind} ended with {self.process.returncode}")

    def processor(self) -> float:
        return processor_seconds(self.process.pid)

    def sent(self) -> int:
        return self.proxy.counts().methods[_SEND]

    def booked(self) -> Usdc:
        return self.asker.wiring.journal.treasury_balance()


def _workers(scene: Scene, databases: Sequence[str], stack: ExitStack) -> list[_Worker]:
    """Started, and the books of each are open."""
    urls = [
        stack.enter_context(fresh_databases(kind, scene.folder, FOLDER, [f"idle_{kind}"]))[0]
        for kind in databases
    ]
    found = []
    for kind, treasury in zip(databases, scene.treasuries(urls), strict=True):
        found.append(stack.enter_context(_worker(scene, kind, treasury)))
    for worker in found:
        scene.wait_until(lambda w=worker: w.alive() or w.asker.wiring.books.cursor())  # type: ignore[misc]
    return found


@contextmanager
def _worker(scene: Scene, kind: str, treasury: Treasury) -> Iterator[_Worker]:
    with CountingProxy(scene.url) as proxy:
        environment = scene.environment(treasury, url=proxy.url, public=True)
        with open_coordinator(environment, act=False) as asker:
            # Makes the database, so that the two do not do it at once.
            asker.limits()
            log = scene.folder / f"worker-{kind}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "coordinator", "worker"],
                    cwd=scene.folder,
                    env=for_child(environment),
                    stdout=output,
                    stderr=output,
                )
            try:
                yield _Worker(kind, treasury, proxy, process, asker)
            except Exception:
                print(log.read_text()[-2000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                process.wait(timeout=30)


class _Waiters:
    """Two processes whose waiters begin when they are told to."""

    def __init__(self, folder: Path, count: int) -> None:
        self._processes = {}
        for way in ("threads", "asyncio"):
            url = f"sqlite:///{folder}/waiters-{way}.db"
            command = [sys.executable, "-m", "tests.benchmarks.waiters", url, str(count)]
            self._processes[way] = subprocess.Popen(
                [*command, str(_WAITERS_SECONDS), way],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def wait_until_ready(self) -> None:
        """Until what they will wait for is decided."""
        for process in self._processes.values():
            assert process.stdout and process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        """Both at once."""
        for process in self._processes.values():
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

    def found(self) -> dict[str, dict[str, float]]:
        """What each used, when it is known."""
        told = {way: p.communicate(timeout=120)[0] for way, p in self._processes.items()}
        return {way: json.loads(text) for way, text in told.items()}


def _idle(workers: Sequence[_Worker], seconds: float, scene: Scene) -> dict[str, dict[str, Any]]:
    began = {w.kind: (time.perf_counter(), w.proxy.counts(), w.processor()) for w in workers}
    first = scene.chain.height
    time.sleep(seconds)
    found, blocks = {}, scene.chain.height - first
    for worker in workers:
        worker.alive()
        at, counts, processor = began[worker.kind]
        found[worker.kind] = idle_figures(
            worker.proxy.counts() - counts,
            worker.processor() - processor,
            blocks,
            time.perf_counter() - at,
        )
    return found


def _deposits(scene: Scene, workers: Sequence[_Worker]) -> dict[str, float]:
    """Seconds from the block of a deposit until each worker has it in its books."""
    before = {worker.kind: worker.booked() for worker in workers}
    hashes = [scene.mint(worker.treasury.address, _DEPOSIT) for worker in workers]
    scene.wait_until(lambda: all(map(scene.mined, hashes)))
    began, found = time.perf_counter(), dict[str, float]()

    def look() -> bool:
        for worker in workers:
            if worker.kind not in found and worker.booked() == before[worker.kind] + _DEPOSIT:
                found[worker.kind] = round(time.perf_counter() - began, 2)
        return len(found) == len(workers)

    scene.wait_until(look, 60)
    return found


def _signed(scene: Scene, workers: Sequence[_Worker]) -> dict[str, float]:
    """Seconds from asking in this process until the worker has sent the purchase's bytes."""
    found = {}
    for worker in workers:
        scene.wait_for_block(0.25)
        before, began = worker.sent(), time.perf_counter()
        asked = buy(worker.asker.agent("a0"), "task", "session")
        scene.wait_until(lambda w=worker, n=before: w.sent() > n)  # type: ignore[misc]
        found[worker.kind] = round(time.perf_counter() - began, 2)
        assert any(t.step == "create" for t in worker.asker.get(asked.id).transactions)
    return found


def processor_seconds(pid: int) -> float:
    """What the processor has spent on a process so far."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    shown = subprocess.run(
        ["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    seconds = 0.0
    for part in shown.stdout.strip().replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
