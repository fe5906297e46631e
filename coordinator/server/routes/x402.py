"""Routes of payments for HTTP requests (x402): ask the treasury to authorise one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from coordinator.server import x402_models as m
from coordinator.server.access import AgentCaller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, documented
from coordinator.server.routes.terms import IdempotencyKey

router = APIRouter(prefix="/v1/x402", tags=["x402"], route_class=StrictRoute)

TIMEOUT_SECONDS_MAX = 60.0


@router.post(
    "/authorisations",
    responses={200: {"model": m.PaymentAnswer}, **BODY_FAULTS, **documented(409)},
)
async def authorise_x402(
    request: Request,
    who: AgentCaller,
    terms: m.AuthorisationTerms,
    key: IdempotencyKey,
    timeout: Annotated[
        float, Query(ge=0, le=TIMEOUT_SECONDS_MAX, description="Seconds to wait.")
    ] = 10.0,
) -> Response:
    """Ask the treasury to pay for one HTTP request that was answered with 402.

    A denial is an answer: look at `purchase.status` and `purchase.reason`. `payment` is what the
    server takes, the same for the same key for ever; null while it waits for approval or for its
    signature: ask again with the same key.
    """
    agent, asked = who.agent, terms.model_dump()
    async with request.app.state.turns.working(who.key.id):
        # What is decided takes a turn; waiting for the signature does not.
        found = await agent.aauthorise_x402(**asked, idempotency_key=key, timeout_seconds=0)
    if found.payment is None and not (found.purchase.final or found.purchase.needs_approval):
        found = await agent.await_payment(found.purchase.id, timeout_seconds=timeout)
    return answer(found)
