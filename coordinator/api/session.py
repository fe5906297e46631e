"""Read, report and close a task or session by name."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from coordinator.api.arguments import checked
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.limits.rules import TASK, Terms
from coordinator.domain.limits.run import Run
from coordinator.domain.purchase.cost import CostStatus
from coordinator.domain.purchase.lifecycle import ESCROWED, OPEN
from coordinator.domain.shown import Shown
from coordinator.domain.usdc import ZERO, Usdc

if TYPE_CHECKING:
    from coordinator.wiring import Wiring

_ROWS_MAX = 10_000


@checked
class Session(Shown):
    """One task or session; as a context manager it is closed at the end of the block."""

    def __init__(self, wiring: Wiring, kind: str, name: str, *, by: str) -> None:
        self._wiring = wiring
        self._by = by
        self.kind = kind
        self.id = name

    def limits(self) -> Sequence[LimitState]:
        """Return its own limits, with what remains of each."""
        mine = f"{self.kind}:{self.id}"
        named = Terms(task=self.id) if self.kind == TASK else Terms(session=self.id)
        states = self._wiring.limits.states(named, now=self._wiring.clock())
        return [state for state in states if str(state.limit.scope) == mine]

    def as_dict(self) -> dict[str, Any]:
        """Return the task or session as JSON; one of the default's has no limits of its own."""
        run = self._wiring.budgets.runs.find(self.kind, self.id)
        if run is not None:
            return run.as_dict()
        unknown = dict.fromkeys(("agent", "opened_by", "opened_at", "closed_by", "closed_at"))
        return {self.kind: self.id, "status": "open", "limits": {}, **unknown}

    def close(self) -> Run:
        """Close it: held costs are voided, and purchases with nothing signed are cancelled.

        What is on its way or funded goes on, and what a cost came to counts when it is posted
        later. Closing again changes nothing.
        """
        return self._wiring.budgets.close(self.kind, self.id, by=self._by)

    def report(self) -> dict[str, Any]:
        """Report its spending as JSON: totals by category and by task, with every transaction.

        ``spent`` of purchases is what left the treasury and did not come back; open ones are
        ``held``. Costs without an escrow stand in ``off_chain``. At most 10,000 rows of each.
        """
        wiring = self._wiring
        task, session = (self.id, None) if self.kind == TASK else (None, self.id)
        purchases = wiring.purchases.list(task=task, session=session, limit=_ROWS_MAX)
        costs = wiring.costs.list(task=task, session=session, limit=_ROWS_MAX)
        other = "session" if self.kind == TASK else "task"
        bought = [
            (p.category, getattr(p, other), p.spent, p.amount if p.status in OPEN else ZERO, ZERO)
            for p in purchases
            if p.status in ESCROWED or p.status in OPEN or p.spent
        ]
        paid = [
            (
                c.category,
                getattr(c.request, other),
                ZERO,
                ZERO,
                _counted(c.status, c.amount, c.posted),
            )
            for c in costs
        ]
        rows = [*bought, *paid]
        return {
            **self.as_dict(),
            "limits": [state.as_dict() for state in self.limits()],
            **_sums(rows),
            "by_category": _by(rows, 0),
            f"by_{other}": _by(rows, 1),
            "purchases": [purchase.as_dict() for purchase in purchases],
            "costs": [cost.as_dict() for cost in costs],
        }

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _counted(status: CostStatus, amount: Usdc, posted: Usdc) -> Usdc:
    return amount if status is CostStatus.HELD else posted


def _by(rows: list[tuple[Any, ...]], column: int) -> dict[str, Any]:
    names = sorted({row[column] or "" for row in rows})
    return {name: _sums([row for row in rows if (row[column] or "") == name]) for name in names}


def _sums(rows: list[tuple[Any, ...]]) -> dict[str, str]:
    return {
        name: str(sum((row[index] for row in rows), start=ZERO))
        for name, index in (("spent", 2), ("held", 3), ("off_chain", 4))
    }
