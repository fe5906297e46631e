"""Make the application of the service: its routes, who may use them, and its faults."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from coordinator.api.coordinator import Coordinator
from coordinator.monitoring.metrics import Metrics
from coordinator.monitoring.readings import Readings
from coordinator.server.bodies import BodyLimit
from coordinator.server.events.streams import Streams
from coordinator.server.mcp import add_mcp
from coordinator.server.observing import Observed
from coordinator.server.origin import PublicOrigin
from coordinator.server.problems import Problem, handle_problems
from coordinator.server.rates import PER_SECOND, Rates
from coordinator.server.routes import (
    approvals,
    books,
    costs,
    events,
    health,
    limits,
    operations,
    purchases,
    runs,
    webhooks,
    x402,
)
from coordinator.server.turns import THREADS, Turns
from coordinator.server.uses import KeyUses

_ROUTERS: Final = (
    health.router,
    purchases.router,
    costs.router,
    runs.make_router(runs.SESSION),
    runs.make_router(runs.TASK),
    limits.router,
    approvals.router,
    books.router,
    operations.router,
    events.router,
    webhooks.router,
    x402.router,
)
_ABOUT: Final = """Budgets, approvals and on-chain USDC escrow for teams of agents.

Answers of policy, people and chain are answers: look at `status` and `reason`. Faults of a request
are problem details (RFC 9457) with a stable `code`. Amounts are decimal strings of USDC.
"""


class _Service(FastAPI):
    """An application that also observes what no route answers, its own faults among it."""

    def build_middleware_stack(self) -> ASGIApp:
        public_url = self.state.coordinator.opened.settings.public_url
        inner = super().build_middleware_stack()
        return Observed(PublicOrigin(inner, public_url), self.state.metrics)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.state.uses.stored())
        if app.state.mcp is not None:
            await stack.enter_async_context(app.state.mcp.running())
        yield


def make_app(coordinator: Coordinator, *, requests_per_second: int = PER_SECOND) -> FastAPI:
    """Make the application that serves this coordinator; whoever runs it closes both."""
    app = _Service(
        title="USDC escrow coordinator",
        version="1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Generated clients name their functions so.
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
    )
    app.state.coordinator = coordinator
    app.state.rates = Rates(requests_per_second)
    app.state.uses = KeyUses(coordinator)
    app.state.turns = Turns()
    app.state.streams = Streams(coordinator)
    app.state.readings = Readings(lambda: coordinator.opened)
    app.state.metrics = Metrics(lambda: coordinator.opened, app.state.readings)
    handle_problems(app)
    app.add_middleware(BodyLimit)
    for router in _ROUTERS:
        app.include_router(router)
    app.state.mcp = add_mcp(app, coordinator.opened.settings.public_url)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.state.described = b""
    app.add_api_route("/v1/openapi.json", _described, include_in_schema=False)
    return app


async def _described(request: Request) -> Response:
    """Answer the OpenAPI, which is written once: anybody may ask for it."""
    state = request.app.state
    state.described = state.described or json.dumps(request.app.openapi()).encode()
    return Response(state.described, media_type="application/json")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the routes, with problems as they are answered."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs", {})
        schemas["Problem"] = problem
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = made
    return app.openapi_schema
