"""Each operation answers those whom it is for, and nobody sees what belongs to another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute, APIRouter

from coordinator.server.app import make_app
from tests.integration.service.operations import ALL, OPERATIONS, Things, send
from tests.integration.service.simulated import SimulatedService, simulated_service

_CALLED = list(OPERATIONS)
_IDS = [" ".join(called) for called in _CALLED]
# Named by an id of their own, which another agent's key must not find.
_OWNED = [
    called
    for called, operation in OPERATIONS.items()
    if "agent" in operation.roles and ("{" in called[1] or operation.named)
]
# Everybody may call these, without a key.
_OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/openapi.json")}


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.fixture(scope="module")
def things(service: SimulatedService) -> Things:
    return Things(service)


def test_every_route_of_the_application_has_its_roles_written_down(
    service: SimulatedService,
) -> None:
    routes = _routes_of(make_app(service.coordinator).router)
    found = {(method, route.path) for route in routes for method in route.methods or ()}
    assert found == set(OPERATIONS) | _OPEN


def _routes_of(router: APIRouter) -> Iterator[APIRoute]:
    """Every route that FastAPI has, documented or not, those of included routers too."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif hasattr(route, "original_router"):
            yield from _routes_of(route.original_router)


@pytest.mark.parametrize("called", _CALLED, ids=_IDS)
def test_an_operation_answers_its_roles_and_refuses_others(
    service: SimulatedService, things: Things, called: tuple[str, str]
) -> None:
    operation = OPERATIONS[called]
    for role in ALL:
        told = send(service.client(role), things, called, operation)
        if role in operation.roles:
            assert told.status_code == 200, told.text if told.is_stream_consumed else told
        else:
            assert (told.status_code, told.json()["code"]) == (403, "forbidden")
    told = send(service.client(None), things, called, operation)
    assert (told.status_code, told.json()["code"]) == (401, "unauthenticated")
    assert told.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("called", _OWNED, ids=" ".join)
def test_another_agents_things_are_not_found(
    service: SimulatedService, things: Things, called: tuple[str, str]
) -> None:
    told = send(service.client("other"), things, called, OPERATIONS[called])
    assert (told.status_code, told.json()["code"]) == (404, "not_found"), told.text


@pytest.mark.parametrize(
    "path",
    ["/v1/purchases", "/v1/sessions", "/v1/tasks", "/v1/increases?waiting=false"],
)
def test_lists_hold_an_agents_own_alone(
    service: SimulatedService, things: Things, path: str
) -> None:
    for name in ("purchase_id", "session", "task", "increase_id"):
        assert things[name]
    assert service.client("agent").get(path).json()["items"]
    assert service.client("other").get(path).json()["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/limits?agent=research-agent",
        "/v1/limits?session=session-1",
        "/v1/limits?task=task-1",
        "/v1/usage?since=0&until=1&scope=agent:research-agent",
        "/v1/usage?since=0&until=1&scope=organisation",
        "/v1/service-level?agent=research-agent",
    ],
)
def test_figures_of_others_are_not_found(
    service: SimulatedService, things: Things, path: str
) -> None:
    assert things["session"] and things["task"]
    told = service.client("other").get(path)
    assert (told.status_code, told.json()["code"]) == (404, "not_found"), told.text
