"""An example request for every operation of the service, and the roles that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx

from tests.integration.service.simulated import AGENT, ANSWER, SimulatedService

_NUMBERS = count(1)
AGENTS: Final = ("agent",)
APPROVERS: Final = ("approver",)
STAFF: Final = ("approver", "operator")
READERS: Final = ("approver", "operator", "auditor")
ALL: Final = ("agent", "approver", "operator", "auditor")
_BUY: Final = {"provider": "paper-api", "amount": "5.00", "purpose": "a paper"}
_COST: Final = {"amount": "1.00", "purpose": "a model call"}
_WHY: Final = {"reason": "a test"}


class Things:
    """Ids of things that belong to the agent, made when they are first asked for."""

    def __init__(self, service: SimulatedService) -> None:
        self._service = service
        self._made: dict[str, str] = {}
        self._makers: Mapping[str, Callable[[], str]] = {
            "purchase_id": lambda: service.buy().id,
            "approval_id": lambda: service.buy("75.00").approval_id or "",
            "cost_id": lambda: service.coordinator.agent(AGENT).hold("1.00").id,
            "increase_id": self._increase,
            "proposal_id": self._proposal,
            "session": lambda: service.coordinator.agent(AGENT).open_session("session-1").id,
            "task": lambda: service.coordinator.agent(AGENT).open_task("task-1").id,
            "key": self._key,
            "webhook_id": self._webhook,
        }

    def __getitem__(self, name: str) -> str:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def _increase(self) -> str:
        agent = self._service.coordinator.agent(AGENT)
        return agent.request_increase("100.00", reason="more papers").id

    def _proposal(self) -> str:
        coordinator = self._service.coordinator
        to = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
        coordinator.withdraw(to=to, amount="900.00", approver="alice", reason="a test")
        return coordinator.proposals()[0].id

    def _webhook(self) -> str:
        coordinator = self._service.coordinator
        return coordinator.add_webhook("https://hooks.example/in", by="olga").webhook.id

    def _key(self) -> str:
        return self._service.buy(idempotency_key="papers/1").idempotency_key or ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: whom it is for, and what makes a request of it."""

    roles: tuple[str, ...]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    # Names of ``Things`` in the body or query.
    named: tuple[str, ...] = ()
    key: bool = False


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/purchases"): Operation(AGENTS, _BUY, key=True),
    ("POST", "/v1/purchases/check"): Operation(AGENTS, _BUY),
    ("GET", "/v1/purchases"): Operation(ALL),
    ("GET", "/v1/purchases/by-key"): Operation(AGENTS, named=("key",)),
    ("GET", "/v1/purchases/{purchase_id}"): Operation(ALL, query={"wait": "funded", "timeout": 5}),
    ("GET", "/v1/purchases/{purchase_id}/receipt"): Operation(ALL),
    ("POST", "/v1/purchases/{purchase_id}/cancel"): Operation(("agent", "operator")),
    ("POST", "/v1/purchases/{purchase_id}/settle"): Operation(("agent", "approver")),
    ("POST", "/v1/purchases/{purchase_id}/contest"): Operation(AGENTS, _WHY),
    ("POST", "/v1/purchases/{purchase_id}/dispute"): Operation(APPROVERS, _WHY),
    ("GET", "/v1/purchases/{purchase_id}/dispute/statement"): Operation(READERS, query=_WHY),
    ("POST", "/v1/x402/authorisations"): Operation(
        AGENTS, {"answer": ANSWER, "url": "https://papers.example/7"}, {"timeout": 0}, key=True
    ),
    ("POST", "/v1/holds"): Operation(AGENTS, _COST, key=True),
    ("POST", "/v1/holds/check"): Operation(AGENTS, _COST),
    ("GET", "/v1/holds/{cost_id}"): Operation(AGENTS),
    ("POST", "/v1/holds/{cost_id}/post"): Operation(AGENTS, {"amount": "0.50"}),
    ("POST", "/v1/holds/{cost_id}/void"): Operation(AGENTS),
    ("POST", "/v1/costs"): Operation(AGENTS, _COST, key=True),
    ("POST", "/v1/sessions"): Operation(("agent", "operator"), {"session": "$new"}),
    ("GET", "/v1/sessions"): Operation(ALL),
    ("GET", "/v1/sessions/report"): Operation(ALL, named=("session",)),
    ("GET", "/v1/sessions/limits"): Operation(ALL, named=("session",)),
    ("POST", "/v1/sessions/close"): Operation(("agent", "operator"), {}, named=("session",)),
    ("POST", "/v1/tasks"): Operation(("agent", "operator"), {"task": "$new"}),
    ("GET", "/v1/tasks"): Operation(ALL),
    ("GET", "/v1/tasks/report"): Operation(ALL, named=("task",)),
    ("GET", "/v1/tasks/limits"): Operation(ALL, named=("task",)),
    ("POST", "/v1/tasks/close"): Operation(("agent", "operator"), {}, named=("task",)),
    ("GET", "/metrics"): Operation(("operator", "auditor")),
    ("GET", "/v1/me"): Operation(ALL),
    ("GET", "/v1/me/policy"): Operation(AGENTS),
    ("GET", "/v1/events"): Operation(ALL),
    ("GET", "/v1/limits"): Operation(ALL),
    ("GET", "/v1/usage"): Operation(ALL, query={"since": 1_767_225_600, "until": 1_767_229_200}),
    ("GET", "/v1/service-level"): Operation(ALL, query={"agent": AGENT}),
    ("POST", "/v1/increases"): Operation(AGENTS, {"amount": "1.00", **_WHY}, key=True),
    ("GET", "/v1/increases"): Operation(ALL),
    ("POST", "/v1/increases/{increase_id}/approve"): Operation(APPROVERS),
    ("POST", "/v1/increases/{increase_id}/reject"): Operation(APPROVERS, _WHY),
    ("GET", "/v1/agents"): Operation(READERS),
    ("GET", "/v1/review"): Operation(READERS),
    ("GET", "/v1/approvals"): Operation(READERS),
    ("GET", "/v1/approvals/{approval_id}"): Operation(READERS),
    ("GET", "/v1/approvals/{approval_id}/statement"): Operation(READERS),
    ("POST", "/v1/approvals/{approval_id}/approve"): Operation(APPROVERS),
    ("POST", "/v1/approvals/{approval_id}/reject"): Operation(APPROVERS, _WHY),
    ("GET", "/v1/proposals"): Operation(READERS),
    ("GET", "/v1/proposals/{proposal_id}"): Operation(READERS),
    ("POST", "/v1/proposals/{proposal_id}/approve"): Operation(APPROVERS),
    ("POST", "/v1/proposals/{proposal_id}/reject"): Operation(APPROVERS, _WHY),
    ("GET", "/v1/report"): Operation(READERS),
    ("GET", "/v1/gas"): Operation(READERS),
    ("POST", "/v1/reconciliation"): Operation(("operator",)),
    ("GET", "/v1/alerts"): Operation(READERS),
    ("GET", "/v1/audit"): Operation(READERS),
    ("POST", "/v1/pause"): Operation(STAFF, {**_WHY, "provider": "paper-api"}),
    ("POST", "/v1/unpause"): Operation(APPROVERS, {**_WHY, "provider": "paper-api"}),
    ("GET", "/v1/pauses"): Operation(READERS),
    ("GET", "/v1/policy"): Operation(READERS),
    ("POST", "/v1/policy/check"): Operation(READERS, {"toml": "[organisation]\n"}),
    ("POST", "/v1/webhooks"): Operation(("operator",), {"url": "https://hooks.example/in"}),
    ("GET", "/v1/webhooks"): Operation(READERS),
    ("GET", "/v1/webhooks/{webhook_id}"): Operation(READERS),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): Operation(READERS),
    ("POST", "/v1/webhooks/{webhook_id}/rotate"): Operation(("operator",), {"overlap": "1h"}),
    ("POST", "/v1/webhooks/{webhook_id}/replay"): Operation(("operator",), {"after": 0}),
    ("DELETE", "/v1/webhooks/{webhook_id}"): Operation(("operator",)),
}
"""Operations by method and path; what is not among them is for everybody, without a key."""


def send(
    client: httpx.Client, things: Things, called: tuple[str, str], operation: Operation
) -> httpx.Response:
    """Make the operation's example request, of the agent's things."""
    method, path = called
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part, things[part.strip("{}")])
    named = {name: things[name] for name in operation.named}
    query, body = dict(operation.query), operation.body
    if body is not None:
        number = next(_NUMBERS)
        body = {k: f"new-{number}" if v == "$new" else v for k, v in body.items()} | named
    else:
        query |= named
    headers = {"Idempotency-Key": f"key-{next(_NUMBERS)}"} if operation.key else {}
    request = client.build_request(method, path, params=query, json=body, headers=headers)
    told = client.send(request, stream=True)
    if told.headers["content-type"].startswith("text/event-stream"):
        told.close()
    else:
        told.read()
    return told
