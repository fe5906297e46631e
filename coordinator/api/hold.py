"""A cost that an agent has reserved, as an object and a context manager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from coordinator.api.arguments import checked
from coordinator.budgets.budgets import Budgets
from coordinator.domain.errors import Denied
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.purchase.cost import Cost
from coordinator.domain.reasons import Reason
from coordinator.domain.shown import Shown
from coordinator.domain.usdc import Amount


@checked
class Hold(Shown):
    """A cost that is held until it is posted or voided, or refused: see ``ok`` and ``denied``.

    As a context manager: ``post`` what it came to; an exception voids it; leaving without either
    posts the whole amount. Entering one that was refused raises ``Denied``, so that nothing is
    spent in the block. The process may die: then the whole amount is posted when it expires.
    """

    def __init__(self, budgets: Budgets, cost: Cost, told: Callable[[], None]) -> None:
        self._budgets = budgets
        self._told = told
        self.cost = cost

    @property
    def id(self) -> str:
        return self.cost.id

    @property
    def ok(self) -> bool:
        return self.cost.ok

    @property
    def denied(self) -> bool:
        return self.cost.denied

    @property
    def reason(self) -> Reason | None:
        return self.cost.reason

    @property
    def limits(self) -> Sequence[LimitState]:
        return self.cost.limits

    def as_dict(self) -> dict[str, Any]:
        """Return the held cost as JSON, as last known here."""
        return self.cost.as_dict()

    def post(self, actual: Amount | None = None) -> Cost:
        """Post the actual cost, by default the whole amount; it may be more than was held.

        A hold that was posted or voided here stays as it is: the answer tells how. One that ended
        meanwhile, because its task or session was closed, it was voided by an operator or its time
        was over, counts what it came to all the same, where that is more than is counted.
        ``Denied`` for a refused one.
        """
        self._check()
        self.cost = self._budgets.post(self.id, self.cost.amount if actual is None else actual)
        self._told()
        return self.cost

    def void(self) -> Cost:
        """Void the hold: nothing was spent."""
        self._check()
        self.cost = self._budgets.void(self.id)
        self._told()
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
        if self.cost.status.value != "held":
            return
        if kind is None:
            self.post()
        else:
            self.void()

    def _check(self) -> None:
        if self.denied:
            assert self.reason is not None
            raise Denied(self.reason.message, code=self.reason.code.value)
