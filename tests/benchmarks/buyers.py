"""Callers of one coordinator that buy at once: in threads or an event loop, waiting or not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from coordinator import Coordinator, Purchase
from coordinator.domain.usdc import Usdc
from tests.benchmarks.course import (
    AGENTS,
    AMOUNT,
    CATEGORY,
    PURCHASES_PER_SESSION,
    PURCHASES_PER_TASK,
)
from tests.benchmarks.proxy import CountingProxy, Counts
from tests.benchmarks.scene import Scene, Treasury, open_coordinator

WAYS: Final = ("not_waiting", "threads", "asyncio")
_ONE: Final = Usdc(AMOUNT)
_FUNDED: Final = "funded"
_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Bought:
    """What ``purchases`` at once took; fewer are ``funded`` where the time was up."""

    purchases: int
    funded: int
    seconds: float
    processor_seconds: float
    blocks: int
    requests: int
    calls: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Buyers:
    """An open coordinator whose executor acts and has bought once, before a counting proxy."""

    def __init__(
        self, scene: Scene, treasury: Treasury, coordinator: Coordinator, proxy: CountingProxy
    ) -> None:
        self.scene = scene
        self.proxy = proxy
        self._address = treasury.address
        self._coordinator = coordinator
        first = self.buy(0, wait=True, timeout_seconds=60)
        if first.status.value != _FUNDED:
            raise RuntimeError(f"the benchmark's first purchase is {first.status}: {first.reason}")
        self.calm()

    def calm(self) -> None:
        """Wait until nothing is on its way."""
        if not self._coordinator.recover(timeout_seconds=60):
            raise RuntimeError("the benchmark's purchases do not end")

    def buy(self, number: int, **how: Any) -> Purchase:
        return self._coordinator.agent(f"a{number % AGENTS}").purchase(**_terms(number), **how)

    async def abuy(self, number: int, **how: Any) -> Purchase:
        agent = self._coordinator.agent(f"a{number % AGENTS}")
        return await agent.apurchase(**_terms(number), **how)

    def one(self, number: int, part: float) -> tuple[float, Counts]:
        """Seconds and calls of one purchase that is asked for at a ``part`` of a block's time."""
        self.scene.wait_for_block(part)
        before, began = self.proxy.counts(), time.perf_counter()
        bought = self.buy(number, wait=True, timeout_seconds=60)
        seconds = time.perf_counter() - began
        counts = self.proxy.counts() - before
        if bought.status.value != _FUNDED:
            raise RuntimeError(f"the benchmark's purchase is {bought.status}: {bought.reason}")
        self.calm()
        return seconds, counts

    def at_once(self, way: str, count: int, timeout_seconds: float) -> Bought:
        """``count`` purchases, asked for when a block has just come."""
        span = _Span(self.scene, self.proxy)
        if way == "not_waiting":
            funded = self._not_waiting(count, timeout_seconds, span)
        else:
            wait = self._threads if way == "threads" else self._asyncio
            bought = wait(count, span, wait=True, timeout_seconds=timeout_seconds)
            funded = sum(purchase.status.value == _FUNDED for purchase in bought)
        return span.bought(count, funded)

    def _not_waiting(self, count: int, timeout_seconds: float, span: _Span) -> int:
        """Nobody waits in this process: the token tells when the last one is funded."""
        before = self._units()
        self._threads(count, span, wait=False)
        until, head, funded = time.monotonic() + timeout_seconds, -1, 0
        while funded < count and time.monotonic() < until:
            if (number := self.scene.chain.height) != head:
                head, funded = number, (before - self._units()) // _ONE.base_units
            time.sleep(_LOOK_SECONDS)
        span.end()
        return funded

    def _units(self) -> int:
        return self.scene.chain.balance(self._address).base_units

    def _threads(self, count: int, span: _Span, **how: Any) -> list[Purchase]:
        # Starting a thread takes long while others are busy: they begin when all are there.
        gate = threading.Event()

        def call(number: int) -> Purchase:
            gate.wait()
            return self.buy(number, **how)

        with ThreadPoolExecutor(count) as callers:
            asked = [callers.submit(call, number) for number in range(count)]
            span.begin()
            gate.set()
            bought = [each.result() for each in asked]
            span.end()
        return bought

    def _asyncio(self, count: int, span: _Span, **how: Any) -> list[Purchase]:
        async def run() -> list[Purchase]:
            span.begin()
            bought = await asyncio.gather(*(self.abuy(number, **how) for number in range(count)))
            span.end()
            return bought

        return asyncio.run(run())


class _Span:
    """What passes from a block that has just come to the end of a case."""

    def __init__(self, scene: Scene, proxy: CountingProxy) -> None:
        self._scene = scene
        self._proxy = proxy

    def begin(self) -> None:
        self._scene.wait_for_block()
        self._before, self._block = self._proxy.counts(), self._scene.chain.height
        self._used, self._began = time.process_time(), time.perf_counter()

    def end(self) -> None:
        self._seconds = time.perf_counter() - self._began
        self._used_since = time.process_time() - self._used
        self._counts = self._proxy.counts() - self._before
        self._blocks = self._scene.chain.height - self._block

    def bought(self, count: int, funded: int) -> Bought:
        return Bought(
            purchases=count,
            funded=funded,
            seconds=round(self._seconds, 3),
            processor_seconds=round(self._used_since, 3),
            blocks=self._blocks,
            requests=self._counts.requests,
            calls=self._counts.calls,
        )


def _terms(number: int) -> dict[str, Any]:
    return {
        "provider": "paper-api",
        "amount": AMOUNT,
        "purpose": "a paper on escrow",
        "category": CATEGORY,
        "task": f"task-{number // PURCHASES_PER_TASK}",
        "session": f"session-{number // PURCHASES_PER_SESSION}",
    }


@contextmanager
def open_buyers(scene: Scene, treasury: Treasury, *, public: bool) -> Iterator[Buyers]:
    """A coordinator of the treasury in this process; its database is fresh."""
    with CountingProxy(scene.url) as proxy:
        environment = scene.environment(treasury, url=proxy.url, public=public)
        with open_coordinator(environment, act=True) as coordinator:
            yield Buyers(scene, treasury, coordinator, proxy)
