"""The Python API of budgets, for operators and orchestrators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from coordinator.api.arguments import checked
from coordinator.api.session import Session
from coordinator.budgets.budgets import Sharing
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.inputs import free_text, identifier
from coordinator.domain.limits.increase import Increase
from coordinator.domain.limits.limits import Used
from coordinator.domain.limits.overlay import Overlay
from coordinator.domain.limits.rules import SESSION, TASK
from coordinator.domain.limits.service import Finding, ServiceLevel
from coordinator.domain.statements.signed import GivenSignature

if TYPE_CHECKING:
    from coordinator.wiring import Wiring


@checked
class BudgetApi(ABC):
    """Methods of ``Coordinator`` for tasks, sessions, shares and grants."""

    @property
    @abstractmethod
    def wiring(self) -> Wiring:
        """Return the coordinator's parts; CoordinatorClosed after it was closed."""

    def open_session(
        self,
        session: str,
        agent: str | None = None,
        limits: Mapping[str, Any] | None = None,
        *,
        by: str = "operator",
    ) -> Session:
        """Open a session with its own limits, for one agent or, without ``agent``, for all.

        ``limits`` are keys of the policy file, {"total_limit": "5.00"}, and may be above the
        default. InvalidRequest when it was opened before.
        """
        return self._open(SESSION, session, agent, limits, by)

    def open_task(
        self,
        task: str,
        agent: str | None = None,
        limits: Mapping[str, Any] | None = None,
        *,
        by: str = "operator",
    ) -> Session:
        """Open a task; ``limits`` may hold ``categories``, each with its own limits."""
        return self._open(TASK, task, agent, limits, by)

    def session(self, session: str, *, by: str = "operator") -> Session:
        """Return a session by name, opened or not, to read its limits, report or close it."""
        return Session(self.wiring, SESSION, session, by=by)

    def task(self, task: str, *, by: str = "operator") -> Session:
        """Return a task by name, opened or not, to read its limits, report or close it."""
        return Session(self.wiring, TASK, task, by=by)

    def sessions(self, *, open_only: bool = False) -> Sequence[dict[str, Any]]:
        """List sessions that were opened by name, oldest first."""
        return self._runs(SESSION, open_only)

    def tasks(self, *, open_only: bool = False) -> Sequence[dict[str, Any]]:
        """List tasks that were opened by name, oldest first."""
        return self._runs(TASK, open_only)

    def increases(self, *, waiting: bool = True, agent: str | None = None) -> Sequence[Increase]:
        """List requests to raise a limit that wait for approval; all with waiting=False.

        Oldest first, at most the 1,000 newest; all agents' or one's.
        """
        at = self.wiring.clock() if waiting else None
        return self.wiring.budgets.increases.list(waiting_at=at, agent=agent)

    def approve_increase(
        self, increase_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> Increase:
        """Approve it in the approver's name; ``reason`` of the answer explains a refusal."""
        budgets = self.wiring.budgets
        return budgets.approve(increase_id, approver=approver, signature=signature)

    def reject_increase(
        self,
        increase_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> Increase:
        """Reject it in the approver's name."""
        budgets = self.wiring.budgets
        return budgets.reject(increase_id, approver=approver, reason=reason, signature=signature)

    def share(self, pool: str, method: str = "rebalance") -> Sharing:
        """Compute how a pool's money would be shared among its agents; nothing is changed.

        ``method``: fixed, by_usage, by_priority or rebalance.
        """
        return self.wiring.budgets.share(pool, method)

    def apply_sharing(self, sharing: Sharing, *, by: str, reason: str) -> None:
        """Put the shares in force, as one audited change."""
        self.wiring.budgets.apply(sharing, by=by, reason=reason)

    def overlays(self) -> Sequence[Overlay]:
        """List the overlays of the policy file: grants, shares of pools, disabled agents."""
        return self.wiring.budgets.overlays.list()

    def withdraw_overlay(self, overlay_id: str, *, by: str, reason: str) -> Overlay:
        """End a grant or share at once; UnknownId when none of that id is in force."""
        by, reason = identifier("by", by), free_text("reason", reason, 2000)
        overlays = self.wiring.budgets.overlays
        return overlays.withdraw(overlay_id, by=by, reason=reason, now=self.wiring.clock())

    def disable_agent(self, agent: str, *, by: str, reason: str) -> bool:
        """Deny the agent's requests until it is enabled; False when it is disabled already."""
        return self._set_enabled(agent, False, by, reason)

    def enable_agent(self, agent: str, *, by: str, reason: str) -> bool:
        """Enable a disabled agent; False when it was not disabled here."""
        return self._set_enabled(agent, True, by, reason)

    def service_level(self, agent: str) -> ServiceLevel:
        """Return the agent's service level, its features, and the share that decides it."""
        return self.wiring.budgets.level(agent)

    def review(self) -> Sequence[Finding]:
        """Find budgets that stand out: under-used, nearly depleted, pools below their mark."""
        return self.wiring.budgets.review()

    def usage(
        self,
        scope: str = "organisation",
        *,
        since: datetime | int,
        until: datetime | int,
        by: str = "hour",
    ) -> Sequence[Used]:
        """Read the usage of a scope ("pool:engineering") by hour, day, week or month.

        From counters, so its cost does not grow with history. The range is [since, until), taken
        to whole hours of the policy's zone.
        """
        return self.wiring.budgets.used(scope, since=_second(since), until=_second(until), by=by)

    def _open(
        self,
        kind: str,
        name: str,
        agent: str | None,
        limits: Mapping[str, Any] | None,
        by: str,
    ) -> Session:
        self.wiring.budgets.open(kind, name, agent=agent, limits=limits, by=by, operator=True)
        return Session(self.wiring, kind, name, by=by)

    def _runs(self, kind: str, open_only: bool) -> Sequence[dict[str, Any]]:
        runs = self.wiring.budgets.runs.list(kind, open_only=open_only)
        return [run.as_dict() for run in runs]

    def _set_enabled(self, agent: str, enabled: bool, by: str, reason: str) -> bool:
        by, reason = identifier("by", by), free_text("reason", reason, 2000)
        overlays, now = self.wiring.budgets.overlays, self.wiring.clock()
        return overlays.set_enabled(agent, enabled, by=by, reason=reason, now=now)


def _second(at: datetime | int) -> int:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidRequest("a time needs its zone: datetime(…, tzinfo=UTC)")
        return int(at.timestamp())
    if type(at) is not int:
        raise InvalidRequest("a time is a datetime with its zone, or a unix second")
    return at
