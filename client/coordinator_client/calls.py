"""The calls of an agent as flows: what each asks, and what it makes of the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coordinator_client import reading, terms
from coordinator_client.errors import (
    ChainUnavailable,
    CoordinatorError,
    InvalidRequest,
    LedgerUnavailable,
    OutcomeUnknown,
    TooManyRequests,
    UnknownId,
)
from coordinator_client.exchange import Exchange, Flow, Pause, Request, Wait
from coordinator_client.words import ESCROWED, Status

if TYPE_CHECKING:
    from coordinator_client.costs import Cost, CostDecision, Increase, Run
    from coordinator_client.values import Answer, Decision, LimitState, PaymentAnswer, Purchase

SESSION: Final = "session"
TASK: Final = "task"
_PAGE_MAX: Final = 500
_LIST_MAX: Final = 10_000
# A service that answers a long poll at once is asked once a second.
_POLL_SECONDS_LEAST: Final = 1.0
_GOALS: Final[Mapping[str, frozenset[Status]]] = {
    "funded": ESCROWED,
    "delivered": frozenset({Status.DELIVERED, Status.DISPUTED, Status.SETTLED}),
    "final": frozenset(),
}

T = TypeVar("T")
Json = Mapping[str, Any]


class Calls:
    """Makes the flows of one agent; a call that does not wait may take ``timeout_seconds``."""

    def __init__(self, exchange: Exchange, timeout_seconds: float) -> None:
        self._exchange = exchange
        self._timeout_seconds = timeout_seconds

    # Purchases.

    def purchase(
        self,
        body: Json,
        *,
        idempotency_key: str | None,
        unless_duplicate: bool = False,
        wait: bool,
        timeout_seconds: float,
    ) -> Flow[Purchase]:
        """Request a purchase, and follow it until it is funded, final, waiting, or timed out."""
        span = terms.seconds("timeout_seconds", timeout_seconds) if wait else 0.0
        goal = Wait("funded", self._exchange.clock() + span)
        purchase = yield from self._exchange.ask(
            self._spending(
                "/v1/purchases",
                body,
                idempotency_key,
                terms.flag(unless_duplicate=unless_duplicate),
            ),
            reading.purchase,
            seconds=max(span, self._timeout_seconds),
            wait=goal if wait else None,
        )
        if not wait:
            return purchase
        # The purchase is made: a fault of looking at it again must not hide it.
        return (yield from self._follow(purchase, goal, forgiven=(CoordinatorError,)))

    def check(self, body: Json) -> Flow[Decision]:
        return self._ask(Request("POST", "/v1/purchases/check", body=body), reading.decision)

    def get(self, purchase_id: str | None, idempotency_key: str | None) -> Flow[Purchase]:
        if (purchase_id is None) == (idempotency_key is None):
            raise InvalidRequest("name a purchase id or an idempotency key")
        if purchase_id is not None:
            return self._ask(Request("GET", _purchase(purchase_id)), reading.purchase)
        params = terms.query(key=idempotency_key)
        return self._ask(Request("GET", "/v1/purchases/by-key", params), reading.purchase)

    def purchases(
        self,
        *,
        status: str | Iterable[str] | None,
        since: datetime | int | None,
        limit: int,
        after: str | None,
    ) -> Flow[list[Purchase]]:
        if type(limit) is not int or not 1 <= limit <= _LIST_MAX:
            raise InvalidRequest(f"limit must be 1 to {_LIST_MAX}")
        chosen = tuple(("status", name) for name in terms.statuses(status))
        second = terms.unix_second(since)
        if second is not None:
            chosen += (("since", str(second)),)
        found: list[Purchase] = []
        while len(found) < limit:
            size = min(_PAGE_MAX, limit - len(found))
            params = (*chosen, ("limit", str(size)), *terms.query(after=after))
            items, after = yield from self._ask(
                Request("GET", "/v1/purchases", params), reading.page
            )
            found += items
            if after is None:
                break
        return found

    def wait_for(self, purchase_id: str, *, until: str, timeout_seconds: float) -> Flow[Purchase]:
        """Follow a purchase until it gets there, or return it as it is when the time is over."""
        span = terms.seconds("timeout_seconds", timeout_seconds)
        goal = Wait(terms.until(until), self._exchange.clock() + span)
        asked = Request("GET", _purchase(purchase_id))
        purchase = yield from self._exchange.ask(
            asked, reading.purchase, seconds=max(span, self._timeout_seconds), wait=goal
        )
        faint = (LedgerUnavailable, ChainUnavailable, TooManyRequests)
        return (yield from self._follow(purchase, goal, forgiven=faint))

    def order(self, purchase_id: str, verb: str, body: Json | None = None) -> Flow[Answer]:
        """Cancel, settle or contest; each may be repeated."""
        path = f"{_purchase(purchase_id)}/{verb}"
        return self._ask(Request("POST", path, body=body, changes=True), reading.answer)

    def receipt(self, purchase_id: str) -> Flow[dict[str, Any]]:
        return self._ask(Request("GET", f"{_purchase(purchase_id)}/receipt"), dict)

    def authorise_x402(
        self, body: Json, *, idempotency_key: str, timeout_seconds: float
    ) -> Flow[PaymentAnswer]:
        """Ask for a payment, and wait at the service for its signature."""
        span = terms.seconds("timeout_seconds", timeout_seconds)
        return self._exchange.ask(
            self._spending("/v1/x402/authorisations", body, idempotency_key),
            reading.payment_answer,
            seconds=max(span, self._timeout_seconds),
            wait=Wait("", self._exchange.clock() + span),
        )

    # Costs.

    def hold(self, body: Json, idempotency_key: str | None) -> Flow[Cost]:
        return self._ask(self._spending("/v1/holds", body, idempotency_key), reading.cost)

    def held(self, cost_id: str) -> Flow[Cost]:
        return self._ask(Request("GET", _cost(cost_id)), reading.cost)

    def record(self, body: Json, idempotency_key: str | None) -> Flow[Cost]:
        return self._ask(self._spending("/v1/costs", body, idempotency_key), reading.cost)

    def check_hold(self, body: Json) -> Flow[CostDecision]:
        return self._ask(Request("POST", "/v1/holds/check", body=body), reading.cost_decision)

    def end_hold(self, cost_id: str, verb: str, body: Json | None = None) -> Flow[Cost]:
        """Post or void a held cost; each may be repeated."""
        path = f"{_cost(cost_id)}/{verb}"
        return self._ask(Request("POST", path, body=body, changes=True), reading.cost)

    # Limits, tasks and sessions.

    def limits(self, **scopes: str | None) -> Flow[tuple[LimitState, ...]]:
        return self._ask(Request("GET", "/v1/limits", terms.query(**scopes)), reading.limits)

    def increase(self, body: Json, idempotency_key: str | None) -> Flow[Increase]:
        return self._ask(self._spending("/v1/increases", body, idempotency_key), reading.increase)

    def open_run(self, kind: str, name: str, limits: Mapping[str, Any] | None) -> Flow[Run]:
        """Open a task or session. It can't be opened twice: after a lost answer, look first."""
        body: dict[str, Any] = {kind: terms.text(kind, name)}
        if limits is not None:
            body["limits"] = terms.run_limits(limits)
        opening = Request("POST", f"/v1/{kind}s", body=body, changes=True, repeatable=False)
        try:
            return (yield from self._ask(opening, reading.run(kind)))
        except OutcomeUnknown:
            looking = Request("GET", f"/v1/{kind}s/report", ((kind, name),))
        try:
            return (yield from self._ask(looking, reading.run(kind)))
        except UnknownId:
            return (yield from self._ask(opening, reading.run(kind)))

    def close_run(self, kind: str, name: str) -> Flow[Run]:
        asked = Request("POST", f"/v1/{kind}s/close", body={kind: name}, changes=True)
        return self._ask(asked, reading.run(kind))

    def run_report(self, kind: str, name: str) -> Flow[dict[str, Any]]:
        return self._ask(Request("GET", f"/v1/{kind}s/report", ((kind, name),)), dict)

    def run_limits(self, kind: str, name: str) -> Flow[tuple[LimitState, ...]]:
        return self._ask(Request("GET", f"/v1/{kind}s/limits", ((kind, name),)), reading.limits)

    # The agent itself.

    def service_level(self) -> Flow[str]:
        return self._ask(Request("GET", "/v1/service-level"), lambda json: str(json["name"]))

    def features(self) -> Flow[tuple[str, ...]]:
        return self._ask(Request("GET", "/v1/service-level"), lambda json: tuple(json["features"]))

    def policy(self) -> Flow[dict[str, Any]]:
        return self._ask(Request("GET", "/v1/me/policy"), dict)

    def name(self) -> Flow[str]:
        return self._ask(Request("GET", "/v1/me"), lambda json: str(json["name"]))

    def _ask(self, request: Request, parse: Callable[[Any], T]) -> Flow[T]:
        return self._exchange.ask(request, parse, seconds=self._timeout_seconds)

    def _spending(
        self,
        path: str,
        body: Json,
        idempotency_key: str | None,
        params: tuple[tuple[str, str], ...] = (),
    ) -> Request:
        key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
        return Request(
            "POST", path, params, body=body, key=terms.idempotency_key(key), changes=True
        )

    def _follow(
        self, purchase: Purchase, goal: Wait, *, forgiven: tuple[type[CoordinatorError], ...]
    ) -> Flow[Purchase]:
        clock = self._exchange.clock
        asked = Request("GET", _purchase(purchase.id))
        while not _arrived(purchase, goal.until) and (left := goal.ends_at - clock()) > 0:
            began = clock()
            try:
                purchase = yield from self._exchange.ask(
                    asked, reading.purchase, seconds=left, wait=goal
                )
            except forgiven:
                return purchase
            if not _arrived(purchase, goal.until) and clock() - began < _POLL_SECONDS_LEAST:
                yield Pause(max(0.0, min(_POLL_SECONDS_LEAST, goal.ends_at - clock())))
        return purchase


def _arrived(purchase: Purchase, until: str) -> bool:
    return purchase.final or purchase.needs_approval or purchase.status in _GOALS[until]


def _purchase(purchase_id: str) -> str:
    return f"/v1/purchases/{terms.path_id(purchase_id, 'purchase')}"


def _cost(cost_id: str) -> str:
    return f"/v1/holds/{terms.path_id(cost_id, 'cost')}"
