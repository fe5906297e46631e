"""``python -m tests.benchmarks.waiters URL COUNT SECONDS WAY``: what many that wait cost.

A process of its own with so many approved purchases, each awaited by a thread or as a future of an
event loop (WAY is threads or asyncio), while nothing happens. It says ``ready``, waits for a line,
and prints the processor seconds a second as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from coordinator import Coordinator
from coordinator.api.coordinator import Agent
from tests.benchmarks.course import AGENTS, buy, course, prepare

_BEGIN_SECONDS_MAX: Final = 10.0
_LOOK_SECONDS: Final = 0.5
_QUIET: Final = 0.05
_CALLERS: Final = 32
# Of the waits, beyond what is measured.
_LONGER: Final = 3600.0


class Told(NamedTuple):
    """Processor seconds a second of all waiters, and milliseconds of each when it begins."""

    of_a_core: float
    begin_ms_each: float


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
        told = _threads(asked, seconds) if way == "threads" else _asyncio(asked, seconds)
        print(json.dumps(told._asdict()), flush=True)
        # Nobody is waited for: all of them still wait.
        os._exit(0)


def _asked(coordinator: Coordinator, number: int) -> tuple[Agent, str]:
    agent = coordinator.agent(f"a{number % AGENTS}")
    return agent, buy(agent, f"task-{number // 20}", f"session-{number // 20}").id


def _threads(asked: list[tuple[Agent, str]], seconds: float) -> Told:
    # Starting a thread takes long while others are busy: they begin when all are there.
    begin = threading.Event()

    def wait(agent: Agent, id_: str) -> None:
        begin.wait()
        agent.wait_for(id_, timeout_seconds=seconds + _LONGER)

    for each in asked:
        threading.Thread(target=wait, args=each, daemon=True).start()
    before = _used()
    begin.set()
    return _measured(before, len(asked), seconds)


def _asyncio(asked: list[tuple[Agent, str]], seconds: float) -> Told:
    async def run() -> Told:
        before = _used()
        waiting = [
            asyncio.ensure_future(agent.await_for(id_, timeout_seconds=seconds + _LONGER))
            for agent, id_ in asked
        ]
        # Beside the loop, which is theirs.
        told = await asyncio.to_thread(_measured, before, len(asked), seconds)
        if any(each.done() for each in waiting):
            raise RuntimeError("a waiter of the benchmark did not wait")
        return told

    return asyncio.new_event_loop().run_until_complete(run())


def _measured(before: float, count: int, seconds: float) -> Told:
    """What beginning costs, until it is quiet or will not be, and what waiting costs then."""
    until, busy = time.monotonic() + _BEGIN_SECONDS_MAX, True
    while busy and time.monotonic() < until:
        busy = _of_a_core(_LOOK_SECONDS) > _QUIET
    begun = _used() - before
    return Told(of_a_core=_of_a_core(seconds), begin_ms_each=begun / count * 1000)


def _of_a_core(seconds: float) -> float:
    used, began = _used(), time.perf_counter()
    time.sleep(seconds)
    return (_used() - used) / (time.perf_counter() - began)


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
