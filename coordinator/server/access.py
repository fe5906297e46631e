"""Find out who asks: a bearer key, and the roles that a route is for."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from coordinator.api.agent import Agent
from coordinator.api.coordinator import Coordinator
from coordinator.domain.access.keys import ApiKey, Role
from coordinator.server.problems import ProblemError
from coordinator.server.turns import Turns

AGENT: Final = frozenset({Role.AGENT})
APPROVERS: Final = frozenset({Role.APPROVER})
OPERATORS: Final = frozenset({Role.OPERATOR})
STAFF: Final = frozenset({Role.APPROVER, Role.OPERATOR})
READERS: Final = frozenset({Role.APPROVER, Role.OPERATOR, Role.AUDITOR})
EVERYBODY: Final = frozenset(Role)

BEARER: Final = HTTPBearer(auto_error=False, description="An API key: `uec_…`.")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="coordinator"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """The one a request speaks for; ``name`` is the agent's, the approver's or the person's."""

    coordinator: Coordinator
    key: ApiKey

    @property
    def role(self) -> Role:
        return self.key.role

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def agent(self) -> Agent:
        """The agent's own view of the treasury; only for callers that are agents."""
        return self.coordinator.agent(self.name)

    @property
    def sees_all(self) -> bool:
        """Whether it may read what belongs to others."""
        return self.role is not Role.AGENT


def coordinator_of(request: Request) -> Coordinator:
    """Return the coordinator that this service was made for."""
    found: Coordinator = request.app.state.coordinator
    return found


async def authenticate(request: Request, given: HTTPAuthorizationCredentials | None) -> ApiKey:
    """Return the key that counts; ProblemError 401 without one, 429 when it asks too often."""
    token = given.credentials if given else ""
    coordinator = coordinator_of(request)
    key = await run_in_threadpool(coordinator.authenticate, token) if token else None
    if key is None:
        said = "show an API key that counts, as Authorization: Bearer uec_…"
        raise ProblemError(401, said, headers=_CHALLENGE)
    request.state.ids.key_id = key.id
    request.app.state.uses.note(key.id)
    request.app.state.rates.admit(key.id)
    return key


def check_role(key: ApiKey, of: frozenset[Role]) -> None:
    """Raise ProblemError 403 for a key of a role that is not among these."""
    if key.role not in of:
        allowed = ", ".join(sorted(role.value for role in of))
        raise ProblemError(403, f"a key of role {key.role} may not do this: it is for {allowed}")


def caller(*, of: frozenset[Role]) -> Any:
    """Make the dependency of a route that only these roles may use."""

    async def find(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    ) -> AsyncIterator[Caller]:
        coordinator = coordinator_of(request)
        key = await authenticate(request, given)
        check_role(key, of)
        turns: Turns = request.app.state.turns
        with turns.admitted(key.id):
            if inspect.iscoroutinefunction(request.scope["endpoint"]):
                yield Caller(coordinator, key)
            else:
                async with turns.working(key.id):
                    yield Caller(coordinator, key)

    # Its end does not wait for a client that reads slowly.
    return Depends(find, scope="function")


AgentCaller = Annotated[Caller, caller(of=AGENT)]
ApproverCaller = Annotated[Caller, caller(of=APPROVERS)]
OperatorCaller = Annotated[Caller, caller(of=OPERATORS)]
StaffCaller = Annotated[Caller, caller(of=STAFF)]
ReadingCaller = Annotated[Caller, caller(of=READERS)]
AgentOrOperator = Annotated[Caller, caller(of=AGENT | OPERATORS)]
AgentOrApprover = Annotated[Caller, caller(of=AGENT | APPROVERS)]
AnyCaller = Annotated[Caller, caller(of=EVERYBODY)]
