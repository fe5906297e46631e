"""Routes for whoever keeps the service running."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from coordinator.domain.access.keys import Role
from coordinator.monitoring import readiness
from coordinator.monitoring.readings import Readings
from coordinator.server.access import Caller, caller, coordinator_of

router = APIRouter(tags=["health"])
Watching = Annotated[Caller, caller(of=frozenset({Role.OPERATOR, Role.AUDITOR}))]


class Check(BaseModel):
    """One check: whether it is as it should be, and one sentence."""

    ok: bool
    detail: str
    block: int | None = None
    age_seconds: int | None = None


class Readiness(BaseModel):
    """Whether the service can do its work."""

    status: str
    checks: dict[str, Check]


# Both are answered by the event loop itself: requests that a hanging database holds up have
# threads of their own and may have taken all of them.
@router.get("/healthz")
async def healthz() -> Response:
    """Answer that the process runs; it asks nothing else."""
    return Response('{"status":"ok"}', media_type="application/json")


@router.get("/readyz", responses={200: {"model": Readiness}, 503: {"model": Readiness}})
async def readyz(request: Request) -> Response:
    """Check database, schema, worker and chain: 200 if all are well, else 503; needs no key."""
    readings: Readings = request.app.state.readings
    settings = coordinator_of(request).opened.settings
    seconds_max = readiness.chain_seconds_max(settings)
    found = readiness.judge(await readings.aread(), chain_seconds_max=seconds_max)
    body = orjson.dumps(found.as_dict())
    return Response(body, 200 if found.ok else 503, media_type="application/json")


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, _: Watching) -> Response:
    """Return the metrics of this process, to operators and auditors: they tell of all agents."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
