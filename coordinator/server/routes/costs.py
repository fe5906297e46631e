"""Routes of costs without an escrow: hold, post, void, record."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from coordinator.domain.purchase.cost import CostRequest
from coordinator.server import models as m
from coordinator.server.access import AgentCaller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented
from coordinator.server.routes.terms import ID, IdempotencyKey

router = APIRouter(prefix="/v1", tags=["costs"], route_class=StrictRoute)

CostId = Annotated[str, Path(pattern=ID)]
_ENDS = {200: {"model": m.Cost}, **BODY_FAULTS, **documented(404, 409)}


@router.post("/holds", responses={200: {"model": m.Cost}, **BODY_FAULTS, **documented(409)})
def hold_cost(who: AgentCaller, terms: m.HoldTerms, key: IdempotencyKey) -> Response:
    """Hold an amount for a cost; a refusal is an answer: look at `status` and `reason`.

    Post what it came to, or void it: an abandoned hold is posted in full when it expires.
    """
    asked: dict[str, Any] = terms.model_dump()
    return answer(who.agent.hold(**asked, idempotency_key=key))


@router.post("/holds/check", responses={200: {"model": m.CostDecision}, **BODY_FAULTS})
def check_hold(who: AgentCaller, terms: m.CostTerms) -> Response:
    """Judge a hold as a dry run; nothing is written."""
    asked: dict[str, Any] = terms.model_dump()
    return answer(who.agent.check_hold(**asked))


@router.get("/holds/{cost_id}", responses={200: {"model": m.Cost}, **FAULTS})
def get_hold(who: AgentCaller, cost_id: CostId) -> Response:
    """Return the agent's cost as it is."""
    return answer(who.agent.held(cost_id))


@router.post("/holds/{cost_id}/post", responses=_ENDS)
def post_hold(who: AgentCaller, cost_id: CostId, actual: m.Actual) -> Response:
    """Post what a held cost came to, by default all of it; it may be more than was held."""
    return answer(who.agent.held(cost_id).post(actual.amount))


@router.post("/holds/{cost_id}/void", responses={200: {"model": m.Cost}, **FAULTS})
def void_hold(who: AgentCaller, cost_id: CostId) -> Response:
    """Void a held cost: nothing was spent."""
    return answer(who.agent.held(cost_id).void())


@router.post("/costs", responses={200: {"model": m.Cost}, **BODY_FAULTS, **documented(409)})
def record_cost(who: AgentCaller, terms: m.CostTerms, key: IdempotencyKey) -> Response:
    """Record money that was spent already; beyond the agent's limits only an operator may.

    A refusal is an answer: tell an operator, who records it by `coordinator costs record`.
    """
    request = CostRequest.of(agent=who.name, **terms.model_dump())
    budgets = who.coordinator.wiring.budgets
    return answer(budgets.record(request, key=key, within_limits=True))
