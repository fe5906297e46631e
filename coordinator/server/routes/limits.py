"""Routes of limits: what remains, what was used, and asking for more."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.times import rfc3339
from coordinator.server import models as m
from coordinator.server.access import (
    AgentCaller,
    AnyCaller,
    ApproverCaller,
    Caller,
    ReadingCaller,
)
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.policy_models import OwnPolicy
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented
from coordinator.server.routes.runs import SESSION, TASK, check_own
from coordinator.server.routes.terms import ID, TIME_MAX, IdempotencyKey, OptionalLabel, given

router = APIRouter(prefix="/v1", tags=["limits"], route_class=StrictRoute)

By = Literal["hour", "day", "week", "month"]
IncreaseId = Annotated[str, Path(pattern=ID)]


@router.get("/me", responses={200: {"model": m.Me}, **FAULTS})
def me(who: AnyCaller) -> Response:
    """Return the role and name that the key speaks for."""
    return answer({"role": who.role.value, "name": who.name})


@router.get("/me/policy", responses={200: {"model": OwnPolicy}, **FAULTS})
def my_policy(who: AgentCaller) -> Response:
    """Return what of the policy concerns the agent: limits, providers, categories."""
    return answer(who.agent.policy())


@router.get("/limits", responses={200: {"model": m.Limits}, **FAULTS})
def limits(
    who: AnyCaller,
    agent: Annotated[str | None, Query(max_length=64)] = None,
    category: OptionalLabel = None,
    provider: OptionalLabel = None,
    task: OptionalLabel = None,
    session: OptionalLabel = None,
) -> Response:
    """Return the limits that spending with these terms touches, with what remains of each."""
    if not who.sees_all:
        if agent not in (None, who.name):
            raise UnknownId(f"{who.name} sees its own limits alone")
        agent = who.name
        _check_runs(who, session, task)
    found = who.coordinator.limits(agent, category, provider=provider, task=task, session=session)
    return answer({"items": [state.as_dict() for state in found]})


def _check_runs(who: Caller, session: str | None, task: str | None) -> None:
    """Let an agent look into sessions and tasks of its own, and those that nobody opened."""
    for kind, name in ((SESSION, session), (TASK, task)):
        if name is not None and who.coordinator.wiring.budgets.runs.find(kind, name) is not None:
            check_own(who, kind, name)


@router.get("/usage", responses={200: {"model": m.Usage}, **FAULTS})
def usage(
    who: AnyCaller,
    since: Annotated[int, Query(ge=0, le=TIME_MAX, description="Unix second, inclusive.")],
    until: Annotated[int, Query(ge=0, le=TIME_MAX, description="Unix second, exclusive.")],
    scope: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    by: By = "hour",
) -> Response:
    """Return what a scope used by hour, day, week or month; an agent's is its own."""
    mine = f"agent:{who.name}"
    if not who.sees_all and scope not in (None, mine):
        raise UnknownId(f"{who.name} sees the usage of {mine} alone")
    of = scope or ("organisation" if who.sees_all else mine)
    found = who.coordinator.usage(of, since=since, until=until, by=by)
    return answer(
        {
            "items": [
                {
                    "start": rfc3339(one.start),
                    "end": rfc3339(one.end),
                    "spent": str(one.usage.spent),
                    "held": str(one.usage.held),
                }
                for one in found
            ]
        }
    )


@router.get("/service-level", responses={200: {"model": m.Anything}, **FAULTS})
def service_level(
    who: AnyCaller, agent: Annotated[str | None, Query(max_length=64)] = None
) -> Response:
    """Return an agent's service level and the features that the policy names for it."""
    if who.sees_all:
        if agent is None:
            raise InvalidRequest("name the agent")
    elif agent not in (None, who.name):
        raise UnknownId(f"{who.name} sees its own service level alone")
    return answer(who.coordinator.service_level(agent or who.name))


@router.post(
    "/increases", responses={200: {"model": m.Increase}, **BODY_FAULTS, **documented(404, 409)}
)
def request_increase(who: AgentCaller, terms: m.IncreaseTerms, key: IdempotencyKey) -> Response:
    """Ask to raise a limit for a time: granted, refused, or waiting for approvers."""
    asked = {"reason": terms.reason, "window": terms.window, "lasts": terms.lasts}
    if terms.pool is not None:
        if terms.scope is not None:
            raise InvalidRequest("name a scope or a pool, not both")
        more = who.agent.request_emergency(
            terms.amount, pool=terms.pool, idempotency_key=key, **asked
        )
        return answer(more)
    scope = terms.scope
    return answer(
        who.agent.request_increase(terms.amount, scope=scope, idempotency_key=key, **asked)
    )


@router.get("/increases", responses={200: {"model": m.Items}, **FAULTS})
def list_increases(who: AnyCaller, waiting: bool = True) -> Response:
    """List requests for more that wait for approvers, or all; an agent's own."""
    own = None if who.sees_all else who.name
    found = who.coordinator.increases(waiting=waiting, agent=own)
    return answer({"items": [increase.as_dict() for increase in found]})


@router.post(
    "/increases/{increase_id}/approve",
    responses={200: {"model": m.Increase}, **BODY_FAULTS, **documented(404)},
)
def approve_increase(
    who: ApproverCaller, increase_id: IncreaseId, signed: m.Signed | None = None
) -> Response:
    """Approve it; `reason` of the answer explains a refusal."""
    found = who.coordinator.approve_increase(
        increase_id, approver=who.name, signature=given(signed)
    )
    return answer(found)


@router.post(
    "/increases/{increase_id}/reject",
    responses={200: {"model": m.Increase}, **BODY_FAULTS, **documented(404)},
)
def reject_increase(who: ApproverCaller, increase_id: IncreaseId, why: m.SignedWhy) -> Response:
    """Reject it, with a reason."""
    found = who.coordinator.reject_increase(
        increase_id, approver=who.name, reason=why.reason, signature=given(why)
    )
    return answer(found)


@router.get("/agents", responses={200: {"model": m.Items}, **FAULTS})
def agents(who: ReadingCaller) -> Response:
    """List registered agents with their limits and what remains of them."""
    found = who.coordinator.agents()
    shown = [{**a, "limits": [state.as_dict() for state in a["limits"]]} for a in found]
    return answer({"items": shown})


@router.get("/review", responses={200: {"model": m.Items}, **FAULTS})
def review(who: ReadingCaller) -> Response:
    """List budgets that stand out: under-used, nearly depleted, pools below their mark."""
    return answer({"items": [finding.as_dict() for finding in who.coordinator.review()]})
