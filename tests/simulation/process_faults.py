"""Real forks and interrupts: what the run's own process opened is used, or waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from coordinator.domain.errors import LedgerUnavailable
from tests.simulation.invariants import Broken

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_CHILD_SECONDS: Final = 20
_INTERRUPTED_AFTER_SECONDS: Final = 0.02


class Interrupted(KeyboardInterrupt):
    """Somebody pressed Ctrl-C."""


def fork(s: Simulation) -> None:
    """A child asks with what its parent opened, after the parent has closed everything of its own.

    Whatever it is told was bought has been bought.
    """
    key, amount = f"fork-{s.rng.getrandbits(32)}", "1.50"
    terms = s.terms("ada", key, "papers", amount)
    used = s.open_process(0).coordinator
    # A coordinator that only exists has nothing that a child could use.
    used.limits()
    seed = s.rng.getrandbits(32)
    s.invariants.close()
    (answer, told), (closed, close) = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads, which is what programs do all the same.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        _in_the_child(s, seed, closed, told, lambda: _ask(used, terms))
    s.end_processes()
    os.write(close, b"x")
    said = _told(child, answer)
    for end in (answer, told, closed, close):
        os.close(end)
    s.faults.struck["forked"] += 1
    s.trail.append(f"  child: {said[:60]}")
    if said.startswith("bought "):
        s.invariants.bought(said.removeprefix("bought "))
    elif not said.startswith("refused "):
        raise Broken("a forked child is answered or refused", said)


def _ask(coordinator: Any, terms: Any) -> str:
    try:
        purchase = coordinator.agent(terms.agent).purchase(
            provider=terms.provider,
            amount=terms.amount,
            purpose="simulated",
            idempotency_key=terms.key,
            wait=False,
        )
    except LedgerUnavailable as fault:
        return f"refused {fault}"
    return f"bought {purchase.id}"


def _in_the_child(s: Simulation, seed: int, closed: int, told: int, act: Callable[[], str]) -> None:
    try:
        os.read(closed, 1)
        s.faults.heal()
        # Its ids are its own.
        s.rng.seed(seed)
        said = act()
    except BaseException as fault:
        said = f"failed {fault!r}"
    os.write(told, said.encode()[:4000])
    os._exit(0)


def _told(child: int, answer: int) -> str:
    """What the child says; it is ended when it says nothing in time."""
    timer = threading.Timer(_CHILD_SECONDS, os.kill, (child, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    return os.read(answer, 4000).decode() if status == 0 else f"was stuck or died: {status}"


def interrupt(s: Simulation) -> None:
    """A process is interrupted while another writes; then each of the two writes at once."""
    first, second = (s.open_process(index).wiring.database for index in (0, 1))
    with s.faults.put_off():
        with (
            contextlib.suppress(Interrupted),
            _locked(f"{s.database}.lock"),
            _interrupting(),
            first.write(),
        ):
            raise Broken("one process writes at a time")
        for database in (second, first):
            try:
                with database.write():
                    pass
            except LedgerUnavailable as fault:
                raise Broken("an interrupted wait leaves no lock behind", fault) from fault
    s.faults.struck["interrupted"] += 1


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """The lock file as another process holds it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def _interrupting() -> Iterator[None]:
    """Interrupt this thread soon: whoever waits for a lock that is not given back waits longer."""

    def raise_it(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raise_it)
    timer = threading.Timer(
        _INTERRUPTED_AFTER_SECONDS,
        signal.pthread_kill,
        (threading.main_thread().ident, signal.SIGUSR1),
    )
    try:
        # On a busy machine it strikes before the wait begins.
        timer.start()
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
