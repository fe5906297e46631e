"""Waits in threads of their own."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep
from typing import Final

from coordinator import Coordinator, Purchase

LONG: Final = 60.0
"""A wait that is over sooner only because something ended it."""


def waiting(
    threads: ThreadPoolExecutor, coordinator: Coordinator, purchase: Purchase, until: str
) -> Future[Purchase]:
    """A wait in a thread of its own, which was registered before this returns."""
    watcher = coordinator._watcher
    before = len(watcher)
    wait = threads.submit(coordinator.wait_for, purchase.id, until=until, timeout_seconds=LONG)
    while len(watcher) == before and not wait.done():
        sleep(0)
    return wait
