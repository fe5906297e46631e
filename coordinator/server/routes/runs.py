"""Routes of sessions and tasks: open, read, report and close; an agent its own alone."""

# No `from __future__ import annotations`: FastAPI would not see names that the factory has.
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from coordinator.api.session import Session
from coordinator.domain.errors import UnknownId
from coordinator.server import models as m
from coordinator.server.access import AgentOrOperator, AnyCaller, Caller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented

SESSION: Final = "session"
TASK: Final = "task"


def make_router(kind: str) -> APIRouter:
    """Make the routes of sessions, or of tasks."""
    router = APIRouter(prefix=f"/v1/{kind}s", tags=[f"{kind}s"], route_class=StrictRoute)
    terms_of: type[m.RunTerms] = m.SessionTerms if kind == SESSION else m.TaskTerms
    name_of = m.SessionName if kind == SESSION else m.TaskName
    Name = Annotated[str, Query(alias=kind, min_length=1, max_length=200)]
    run: dict[int | str, dict[str, Any]] = {200: {"model": m.Run}}

    @router.post(
        "", operation_id=f"open_{kind}", responses={**run, **BODY_FAULTS, **documented(404)}
    )
    def open_run(who: AgentOrOperator, terms: terms_of) -> Response:  # type: ignore[valid-type]
        """Open it, with the default limits or lower ones; operators may give more."""
        asked: m.RunTerms = terms
        name, agent, limits = getattr(asked, kind), asked.agent, asked.limits
        if who.sees_all:
            opened = who.coordinator.open_session if kind == SESSION else who.coordinator.open_task
            return answer(opened(name, agent, limits, by=who.name))
        if agent not in (None, who.name):
            raise UnknownId(f"an agent opens a {kind} for itself alone")
        own = who.agent.open_session if kind == SESSION else who.agent.open_task
        return answer(own(name, limits))

    @router.get("", operation_id=f"list_{kind}s", responses={200: {"model": m.Items}, **FAULTS})
    def list_runs(who: AnyCaller, open_only: bool = False) -> Response:
        """List those that were opened by name, oldest first."""
        find = who.coordinator.sessions if kind == SESSION else who.coordinator.tasks
        found = find(open_only=open_only)
        return answer({"items": [r for r in found if who.sees_all or r["agent"] == who.name]})

    @router.get(
        "/report", operation_id=f"report_{kind}", responses={200: {"model": m.Anything}, **FAULTS}
    )
    def report(who: AnyCaller, name: Name) -> Response:
        """Report its spending: totals by category, with every transaction."""
        return answer(_seen_by(who, kind, name).report())

    @router.get(
        "/limits", operation_id=f"limits_of_{kind}", responses={200: {"model": m.Limits}, **FAULTS}
    )
    def limits(who: AnyCaller, name: Name) -> Response:
        """Return its own limits, with what remains of each."""
        return answer({"items": [state.as_dict() for state in _seen_by(who, kind, name).limits()]})

    @router.post(
        "/close",
        operation_id=f"close_{kind}",
        responses={**run, **BODY_FAULTS, **documented(404)},
    )
    def close(who: AgentOrOperator, named: name_of) -> Response:  # type: ignore[valid-type]
        """Close it: what is held goes back, purchases with nothing signed are cancelled."""
        return answer(_seen_by(who, kind, getattr(named, kind)).close())

    return router


def _seen_by(who: Caller, kind: str, name: str) -> Session:
    """Return the session or task; UnknownId for an agent when it was not opened for that one."""
    by = who.name
    c = who.coordinator
    found = c.session(name, by=by) if kind == SESSION else c.task(name, by=by)
    if not who.sees_all:
        check_own(who, kind, name)
    return found


def check_own(who: Caller, kind: str, name: str) -> None:
    """Raise UnknownId unless the session or task was opened for the agent that asks."""
    run = who.coordinator.wiring.budgets.runs.find(kind, name)
    if run is None or run.opening.agent != who.name:
        raise UnknownId(f"{who.name} has no such {kind}")
