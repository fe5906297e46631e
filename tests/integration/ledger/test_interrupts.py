"""An interrupt at any point of waiting or writing leaves nothing taken that others need."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from coordinator.api.coordinator import Coordinator
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.sqlite import SqliteDatabase, _FileLock
from coordinator.ledger.store.turns import Turns
from coordinator.ledger.tx.group_commit import GroupCommit
from tests.integration.ledger.deciding import ask
from tests.integration.stores import on_both, url_of

# What takes a turn or a lock; the cleaning up itself is left alone.
_TAKING = {
    code.__code__
    for code in (GroupCommit.run, Turns.take, _FileLock.take, SqliteDatabase._get_in_line)
}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python leaves interrupts ignored where a shell started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_for_another_process_leaves_the_lock(path: Path) -> None:
    url = url_of(path)
    holder, waiter, third = (open_database(url, lock_timeout_seconds=5) for _ in range(3))
    known = set(threading.enumerate())
    with holder.write():

        def interrupt() -> None:
            while len(set(threading.enumerate()) - known) < 2:
                ended.wait(0.01)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        ended = threading.Event()
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt), waiter.write():
            pass
        interrupter.join()
        helper = next(t for t in threading.enumerate() if t not in known)
    # It waited on for the interrupted caller and has the lock first: it must not keep it.
    helper.join(20)
    assert not helper.is_alive()
    with third.write():
        pass
    with waiter.write():
        pass
    for database in (holder, waiter, third):
        database.close()


class _InterruptAt:
    """Raises KeyboardInterrupt at the n-th line of the code that takes turns and locks."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._seen: set[tuple[FrameType, int]] = set()
        self.struck = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code in _TAKING else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        # A `with` is visited again before it ends, where Python lets no signal in.
        visit = (frame, frame.f_lineno)
        if event == "line" and not self.struck and visit not in self._seen:
            self._seen.add(visit)
            self._left -= 1
            if self._left == 0:
                self.struck = True
                raise KeyboardInterrupt
        return self._line


@on_both
def test_an_interrupt_at_any_line_of_deciding_keeps_nobody_from_deciding(
    coordinator: Coordinator,
) -> None:
    ask(coordinator.agent("ada"))
    number, struck = 0, True
    while struck:
        number += 1
        interrupt = _InterruptAt(number)
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            ask(coordinator.agent("ada"))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        struck = interrupt.struck
        other = threading.Thread(target=ask, args=(coordinator.agent("bert"),), daemon=True)
        other.start()
        other.join(20)
        assert not other.is_alive(), f"nobody decides after an interrupt at line {number}"
    assert number > 10
