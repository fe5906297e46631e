"""Guards of what a process has opened: a forked child and a closed object are refused."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final

from coordinator.domain.errors import CoordinatorClosed, ForkedProcess

FORK_WAIT_SECONDS: Final = 2.0

_mutex: Final = threading.RLock()
_connected: Final[weakref.WeakSet[Connected]] = weakref.WeakSet()


class Opened:
    """Tell whether this process may use something: the first that used it may, until a close."""

    __slots__ = ("_closed", "_pid", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid: int | None = None
        self._closed = False

    def check(self) -> None:
        """Refuse a forked child (ForkedProcess) and any use after the close (CoordinatorClosed)."""
        if self._pid != os.getpid():
            self._bind()
        if self._closed:
            raise CoordinatorClosed(f"{self._what} is closed: open another one; nothing was done")

    def here(self) -> bool:
        """Return False in a process that was forked from the one that uses it."""
        return self._pid is None or self._pid == os.getpid()

    def close(self) -> None:
        """Refuse every later use."""
        self._closed = True

    def _bind(self) -> None:
        if self._pid is not None:
            raise ForkedProcess(
                f"{self._what} belongs to process {self._pid}, from which this one was forked:"
                " open a coordinator of its own here (Coordinator.from_env()); nothing was done"
            )
        self._pid = os.getpid()


class Connected(ABC):
    """A database's connections, which no fork may copy.

    Before a fork, transactions under way are waited for (FORK_WAIT_SECONDS at most) and every
    connection is closed; this process connects anew afterwards. SQLite and libpq keep state in the
    process that would make even a connection of the child's own unsafe. What could not be closed,
    because a transaction went on, is made useless in the child by ``disown``.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Transactions under way, each with its thread.
        self._inside: dict[object, int] = {}
        self._forking = False
        with _mutex:
            _connected.add(self)

    @abstractmethod
    def disconnect(self) -> None:
        """Close every connection that nobody uses."""

    @abstractmethod
    def disown(self) -> None:
        """Make useless, in a forked child, what is left of the parent's; touch nothing shared."""

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Use connections within the block; a fork waits for its end."""
        me, mine = threading.get_ident(), object()
        try:
            with self._changed:
                while self._forking and me not in self._inside.values():
                    self._changed.wait()
                self._inside[mine] = me
            yield
        finally:
            with self._changed:
                self._inside.pop(mine, None)
                if self._forking:
                    self._changed.notify_all()

    def before_fork(self, deadline: float) -> None:
        """Let nothing begin, wait for what is under way in other threads, and disconnect."""
        me = threading.get_ident()
        with self._changed:
            self._forking = True
            # A transaction of the forking thread itself would never end.
            self._changed.wait_for(
                lambda: me in self._inside.values() or not self._inside,
                max(0.0, deadline - time.monotonic()),
            )
            idle = not self._inside
        if idle:
            self.disconnect()

    def after_fork(self) -> None:
        """Go on in the parent."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def in_child(self) -> None:
        """Leave the parent's locks and connections alone, in the child."""
        self._changed = threading.Condition()
        self._inside.clear()
        self._forking = False
        self.disown()


def _before_fork() -> None:
    _mutex.acquire()
    deadline = time.monotonic() + FORK_WAIT_SECONDS
    for one in list(_connected):
        one.before_fork(deadline)


def _after_fork_in_parent() -> None:
    for one in list(_connected):
        one.after_fork()
    _mutex.release()


def _after_fork_in_child() -> None:
    for one in list(_connected):
        one.in_child()
        _connected.discard(one)
    _mutex.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
