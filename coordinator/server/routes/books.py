"""Routes of the books: report, gas, reconciliation, alerts, audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from coordinator.server import models as m
from coordinator.server.access import OperatorCaller, ReadingCaller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import FAULTS
from coordinator.server.routes.terms import Limit, Since, Until

router = APIRouter(prefix="/v1", tags=["books"], route_class=StrictRoute)


@router.get("/report", responses={200: {"model": m.Anything}, **FAULTS})
def report(who: ReadingCaller, since: Since = None, until: Until = None) -> Response:
    """Report the movements of USDC in [since, until), by the books, and what is open."""
    return answer(who.coordinator.report(since=since, until=until))


@router.get("/gas", responses={200: {"model": m.Anything}, **FAULTS})
def gas(who: ReadingCaller) -> Response:
    """Report the ETH for gas, and how many more purchases it pays for."""
    return answer(who.coordinator.gas())


@router.post("/reconciliation", responses={200: {"model": m.Anything}, **FAULTS})
def reconcile(who: OperatorCaller) -> Response:
    """Bring the books to the chain's newest block and compare them; signs nothing."""
    return answer(who.coordinator.reconcile())


@router.get("/alerts", responses={200: {"model": m.Items}, **FAULTS})
def alerts(
    who: ReadingCaller,
    since: Since = None,
    kind: Annotated[str | None, Query(max_length=40)] = None,
    limit: Limit = 100,
) -> Response:
    """List notices, newest first, with their delivery."""
    found = who.coordinator.alerts(since=since, kind=kind, limit=limit)
    return answer({"items": [notice.as_dict() for notice in found]})


@router.get("/audit", responses={200: {"model": m.Page}, **FAULTS})
def audit(
    who: ReadingCaller,
    after: Annotated[int, Query(ge=0, le=2**53, description="A sequence number.")] = 0,
    limit: Limit = 100,
) -> Response:
    """List the audit log's rows after a sequence number, oldest first."""
    rows = list(who.coordinator.audit(after=after, limit=limit))
    more = str(rows[-1]["seq"]) if len(rows) == limit else None
    return answer({"items": rows, "next": more})
