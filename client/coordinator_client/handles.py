"""Holds, tasks and sessions of an agent, as objects and context managers."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from coordinator_client import terms
from coordinator_client.calls import Calls
from coordinator_client.told import ToldHold, ToldRun
from coordinator_client.transport import Threads
from coordinator_client.usdc import Amount

if TYPE_CHECKING:
    from coordinator_client.costs import Cost, Run
    from coordinator_client.values import LimitState


class Hold(ToldHold):
    """A cost that is held until it is posted or voided, or refused: see ``ok`` and ``denied``.

    As a context manager: ``post`` what it came to; an exception voids it; leaving without either
    posts the whole amount. Entering one that was refused raises ``Denied``, so that nothing is
    spent in the block. The process may die: then the whole amount is posted when it expires.
    """

    def __init__(self, threads: Threads, calls: Calls, cost: Cost) -> None:
        super().__init__(cost)
        self._run, self._calls = threads.run, calls

    def post(self, actual: Amount | None = None) -> Cost:
        """Post the actual cost, by default the whole amount; it may be more than was held.

        A hold that was posted or voided here stays as it is: the answer tells how. ``Denied`` for
        a refused one.
        """
        self._check()
        body = terms.actual_body(actual)
        self.cost = self._run(self._calls.end_hold(self.id, "post", body))
        return self.cost

    def void(self) -> Cost:
        """Void the hold: nothing was spent."""
        self._check()
        self.cost = self._run(self._calls.end_hold(self.id, "void"))
        return self.cost

    def __enter__(self) -> Hold:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_held:
            return
        if kind is None:
            self.post()
        else:
            self.void()


class Session(ToldRun):
    """One task or session; as a context manager it is closed at the end of the block."""

    def __init__(self, threads: Threads, calls: Calls, run: Run) -> None:
        super().__init__(run)
        self._run, self._calls = threads.run, calls

    def limits(self) -> Sequence[LimitState]:
        """Return its own limits, with what remains of each."""
        return self._run(self._calls.run_limits(self.kind, self.id))

    def close(self) -> Run:
        """Close it: held costs are voided, and purchases with nothing signed are cancelled.

        What is on its way or funded goes on. Closing again changes nothing.
        """
        self._last = self._run(self._calls.close_run(self.kind, self.id))
        return self._last

    def report(self) -> dict[str, Any]:
        """Report its spending as JSON: totals by category and by task, with every transaction."""
        return self._run(self._calls.run_report(self.kind, self.id))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
