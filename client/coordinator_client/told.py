"""Properties of holds, tasks and sessions that ask nothing, for both kinds of agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from coordinator_client.errors import Denied
from coordinator_client.words import CostStatus

if TYPE_CHECKING:
    from coordinator_client.costs import Cost, Run
    from coordinator_client.values import LimitState, Reason


class ToldHold:
    """A held or refused cost, as last known here."""

    def __init__(self, cost: Cost) -> None:
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

    @property
    def _is_held(self) -> bool:
        return self.cost.status is CostStatus.HELD

    def _check(self) -> None:
        if self.denied:
            assert self.reason is not None
            raise Denied(self.reason.message, code=self.reason.code.value)


class ToldRun:
    """A task or session, as last known here."""

    def __init__(self, run: Run) -> None:
        self._last = run
        self.kind = run.kind
        self.id = run.id

    def as_dict(self) -> dict[str, Any]:
        """Return the task or session as JSON, as last known here."""
        return self._last.as_dict()
