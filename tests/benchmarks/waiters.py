"""``python -m tests.benchmarks.waiters URL COUNT SECONDS WAY``: what many that wait cost.

A process of its own with so many approved purchases, each awaited by a thread or as a future of an
event loop (WAY is threads or asyncio), while nothing happens. It says ``ready``, waits for a line,
and prints the processor seconds a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from coordinator import Coordinator
from coordinator.api.coordinator import Agent
from tests.benchmarks.course import AGENTS, buy, course, prepare

_BEGIN_SECONDS: Final = 1.5
_CALLERS: Final = 32
# Of the waits, beyond what is measured.
_LONGER: Final = 3600.0


def main() -> None:
    url, count, seconds, way = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    # That nobody acts is what is wanted here.
    logging.disable(logging.WARNING)
    prepare(url)
    with course(url) as coordinator:
        with ThreadPoolExecutor(_CALLERS) as callers:
            asked = list(callers.map(partial(_asked, coordinator), range(count)))
        print("ready", flush=True)
        sys.stdin.readline()
        of_a_core = _threads(asked, seconds) if way == "threads" else _asyncio(asked, seconds)
        print(of_a_core, flush=True)
        # Nobody is waited for: all of them still wait.
        os._exit(0)


def _asked(coordinator: Coordinator, number: int) -> tuple[Agent, str]:
    agent = coordinator.agent(f"a{number % AGENTS}")
    return agent, buy(agent, f"task-{number // 20}", f"session-{number // 20}").id


def _threads(asked: list[tuple[Agent, str]], seconds: float) -> float:
    # Starting a thread takes long while others are busy: they begin when all are there.
    begin = threading.Event()

    def wait(agent: Agent, id_: str) -> None:
        begin.wait()
        agent.wait_for(id_, timeout_seconds=seconds + _LONGER)

    for each in asked:
        threading.Thread(target=wait, args=each, daemon=True).start()
    begin.set()
    time.sleep(_BEGIN_SECONDS)
    before, began = _used(), time.perf_counter()
    time.sleep(seconds)
    return (_used() - before) / (time.perf_counter() - began)


def _asyncio(asked: list[tuple[Agent, str]], seconds: float) -> float:
    async def run() -> float:
        waiting = [
            asyncio.ensure_future(agent.await_for(id_, timeout_seconds=seconds + _LONGER))
            for agent, id_ in asked
        ]
        await asyncio.sleep(_BEGIN_SECONDS)
        before, began = _used(), time.perf_counter()
        await asyncio.sleep(seconds)
        of_a_core = (_used() - before) / (time.perf_counter() - began)
        if any(each.done() for each in waiting):
            raise RuntimeError("a waiter of the benchmark did not wait")
        return of_a_core

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(run())


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
