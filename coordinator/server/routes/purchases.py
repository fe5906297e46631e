"""Routes of purchases: request, check, list, follow to their end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from coordinator.domain.access.keys import Role
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.purchase.purchase import Purchase
from coordinator.server import models as m
from coordinator.server.access import (
    AgentCaller,
    AgentOrApprover,
    AgentOrOperator,
    AnyCaller,
    ApproverCaller,
    Caller,
    ReadingCaller,
)
from coordinator.server.answers import answer, page
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented
from coordinator.server.routes.terms import ID, IdempotencyKey, Limit, Since, given

router = APIRouter(prefix="/v1/purchases", tags=["purchases"], route_class=StrictRoute)

Until = Literal["funded", "delivered", "final"]
TIMEOUT_SECONDS_MAX = 60.0
PurchaseId = Annotated[str, Path(pattern=ID)]
Timeout = Annotated[float, Query(ge=0, le=TIMEOUT_SECONDS_MAX, description="Seconds.")]


def _seen_by(who: Caller, purchase_id: str) -> Purchase:
    return who.coordinator.get(purchase_id) if who.sees_all else who.agent.get(purchase_id)


@router.post(
    "",
    responses={
        200: {"model": m.Purchase},
        **BODY_FAULTS,
        **documented(409),
    },
)
async def request_purchase(
    request: Request,
    who: AgentCaller,
    terms: m.PurchaseTerms,
    key: IdempotencyKey,
    wait: Annotated[Until | None, Query(description="Answer when it got there.")] = None,
    timeout: Timeout = 30.0,
    unless_duplicate: Annotated[
        bool,
        Query(
            description="Answer with the purchase of the last ten minutes that has the same"
            " provider, amount and service under another key, where there is one."
        ),
    ] = False,
) -> Response:
    """Request a purchase; a denial is an answer: look at `status` and `reason`.

    With `wait` the answer comes when the purchase got there, is final, waits for approval, or
    after `timeout` seconds. The same key with the same terms returns the same purchase.
    With `unless_duplicate` the answer may be a purchase under another `idempotency_key`.
    """
    agent, asked = who.agent, terms.model_dump()
    asked |= {"idempotency_key": key, "unless_duplicate": unless_duplicate}
    async with request.app.state.turns.working(who.key.id):
        purchase = await agent.apurchase(**asked, wait=False)
    if wait is None or purchase.final or purchase.needs_approval:
        return answer(purchase)
    try:
        return answer(await agent.await_for(purchase.id, until=wait, timeout_seconds=timeout))
    except CoordinatorError:
        # It is made, and goes on: that it can't be waited for must not look like a refusal.
        return answer(purchase)


@router.post(
    "/check",
    responses={200: {"model": m.Decision}, **BODY_FAULTS},
)
def check_purchase(who: AgentCaller, terms: m.PurchaseTerms) -> Response:
    """Judge a purchase as a dry run; nothing is written or held."""
    asked: Any = terms.model_dump()
    return answer(who.agent.check(**asked))


@router.get("", responses={200: {"model": m.PurchasePage}, **FAULTS})
def list_purchases(
    who: AnyCaller,
    status: Annotated[list[str] | None, Query()] = None,
    agent: Annotated[str | None, Query(max_length=64)] = None,
    since: Since = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """List purchases, newest first: an agent's own, or everybody's; `next` goes on."""
    terms: dict[str, Any] = {"status": status, "since": since, "limit": limit, "after": after}
    if who.sees_all:
        found = who.coordinator.purchases(agent=agent, **terms)
    elif agent in (None, who.name):
        if after is not None:
            who.agent.get(after)
        found = who.agent.purchases(**terms)
    else:
        found = []
    return page(found, limit, "purchase_id")


@router.get("/by-key", responses={200: {"model": m.Purchase}, **FAULTS})
def find_purchase(
    who: AgentCaller, key: Annotated[str, Query(min_length=1, max_length=200)]
) -> Response:
    """Find the agent's purchase by its own idempotency key, after a lost answer."""
    return answer(who.agent.get(idempotency_key=key))


@router.get("/{purchase_id}", responses={200: {"model": m.Purchase}, **FAULTS})
async def get_purchase(
    who: AnyCaller,
    purchase_id: PurchaseId,
    wait: Annotated[Until | None, Query(description="Answer when it got there.")] = None,
    timeout: Timeout = 30.0,
) -> Response:
    """Return a purchase, with `wait` when it got there, or as it is after `timeout` seconds."""
    runtime = who.coordinator
    purchase = await runtime.off_loop(lambda: _seen_by(who, purchase_id))
    if wait is not None:
        purchase = await runtime.await_for(purchase.id, until=wait, timeout_seconds=timeout)
    return answer(purchase)


@router.post("/{purchase_id}/cancel", responses={200: {"model": m.Answer}, **FAULTS})
def cancel_purchase(who: AgentOrOperator, purchase_id: PurchaseId) -> Response:
    """Cancel a purchase with nothing on its way; its hold is voided."""
    if who.role is Role.AGENT:
        return answer(who.agent.cancel(purchase_id))
    return answer(who.coordinator.cancel(purchase_id, by=who.name))


@router.post("/{purchase_id}/settle", responses={200: {"model": m.Answer}, **FAULTS})
def settle_purchase(who: AgentOrApprover, purchase_id: PurchaseId) -> Response:
    """Pay the provider of a delivered purchase early; an agent up to its threshold."""
    if who.role is Role.AGENT:
        return answer(who.agent.settle(purchase_id))
    return answer(who.coordinator.settle(purchase_id, approver=who.name))


@router.post(
    "/{purchase_id}/contest",
    responses={200: {"model": m.Answer}, **BODY_FAULTS, **documented(404)},
)
def contest_purchase(who: AgentCaller, purchase_id: PurchaseId, why: m.Why) -> Response:
    """Say that the delivery is not what was asked for: it is not settled early any more."""
    return answer(who.agent.contest(purchase_id, reason=why.reason))


@router.post("/{purchase_id}/dispute", responses={200: {"model": m.Answer}, **FAULTS})
def dispute_purchase(who: ApproverCaller, purchase_id: PurchaseId, why: m.SignedWhy) -> Response:
    """Dispute a delivered purchase within its window; the bond is held meanwhile."""
    found = who.coordinator.dispute(
        purchase_id, approver=who.name, reason=why.reason, signature=given(why)
    )
    return answer(found)


@router.get("/{purchase_id}/dispute/statement", responses={200: {"model": m.Statement}, **FAULTS})
def show_dispute_statement(
    who: ReadingCaller,
    purchase_id: PurchaseId,
    reason: Annotated[str, Query(min_length=1, max_length=2000)],
) -> Response:
    """Return what an approver signs to dispute it for a reason."""
    return answer(who.coordinator.dispute_statement(purchase_id, reason=reason).as_dict())


@router.get("/{purchase_id}/receipt", responses={200: {"model": m.Anything}, **FAULTS})
def receipt(who: AnyCaller, purchase_id: PurchaseId) -> Response:
    """Return the proof of a purchase: who, why, limits, approvals, transactions."""
    found = who.coordinator.receipt(_seen_by(who, purchase_id).id)
    return answer(found if who.sees_all else _without_machines(found))


def _without_machines(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out on which machines, and as whose users, people decided."""
    rows = [
        {**row, "body": {k: v for k, v in row["body"].items() if k not in ("host", "user")}}
        for row in receipt["audit"]
    ]
    return {**receipt, "audit": [{k: row[k] for k in row if k != "host"} for row in rows]}
