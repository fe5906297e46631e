"""The worker's main thread sleeps until a signal comes or it is poked."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from coordinator.cli import ending as module
from coordinator.cli.ending import Ending, ending


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in found.items():
        signal.signal(number, handler)


@pytest.fixture
def end(handlers: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ending]:
    # Nothing but what is tested ends a wait.
    monkeypatch.setattr(module, "_LOOK_SECONDS", 3600.0)
    with ending() as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_any_thread_takes_ends_the_wait(end: Ending, number: signal.Signals) -> None:
    waits = threading.Event()

    def over() -> bool:
        waits.set()
        return False

    def take() -> None:
        waits.wait()
        signal.pthread_kill(threading.get_ident(), number)

    threading.Thread(target=take).start()
    end.wait(over)


def test_a_signal_before_the_wait_ends_it(end: Ending) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    end.wait(lambda: False)


def test_a_poke_has_it_look_once_more(end: Ending) -> None:
    looks = 0

    def over() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            threading.Thread(target=end.poke).start()
        return looks == 2

    end.wait(over)
    assert looks == 2


def test_more_pokes_than_fit_and_one_too_late_do_no_harm() -> None:
    with ending() as end:
        for _ in range(100_000):
            end.poke()
        end.wait(lambda: True)
    end.poke()
