"""Wait for a signal to end, without looking for one again and again."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

# Whoever pokes may be unable to: the database that tells of changes is away.
_LOOK_SECONDS: Final = 5.0


class Ending:
    """The main thread's wait for SIGTERM or SIGINT, or for something else that it is poked for."""

    def __init__(self, woken: socket.socket, waker: socket.socket) -> None:
        self._woken = woken
        self._waker = waker
        self._told = False

    def tell(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._told = True

    def poke(self, *_: object) -> None:
        """Have ``wait`` look once more, from any thread."""
        # Full: it has been woken already. Closed: it waits no more.
        with suppress(OSError):
            self._waker.send(b"\0")

    def wait(self, over: Callable[[], bool]) -> None:
        """Return after a signal, or when ``over`` says so."""
        while not self._told and not over():
            if select.select([self._woken], [], [], _LOOK_SECONDS)[0]:
                self._woken.recv(4096)


@contextmanager
def ending() -> Iterator[Ending]:
    """Handle SIGTERM and SIGINT from now on; only in the main thread.

    A signal may come to any thread, and only the main one runs its handler: what wakes it is the
    byte that the interpreter writes at once.
    """
    assert threading.current_thread() is threading.main_thread()
    woken, waker = socket.socketpair()
    with woken, waker:
        waker.setblocking(False)
        found = Ending(woken, waker)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, found.tell)
        before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield found
        finally:
            signal.set_wakeup_fd(before)
