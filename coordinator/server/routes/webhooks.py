"""Routes of webhooks: operators register targets, rotate their secrets and replay events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from coordinator.server import webhook_models as m
from coordinator.server.access import OperatorCaller, ReadingCaller
from coordinator.server.answers import answer, page
from coordinator.server.bodies import StrictRoute
from coordinator.server.problems import BODY_FAULTS, FAULTS, documented

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)

WebhookId = Annotated[str, Path(max_length=64)]


@router.post("", responses={200: {"model": m.NewWebhook}, **BODY_FAULTS})
def add_webhook(who: OperatorCaller, target: m.Target) -> Response:
    """Register a target; its secret is shown this once."""
    types = target.types or ()
    made = who.coordinator.add_webhook(target.url, types=types, agent=target.agent, by=who.name)
    return answer(made)


@router.get("", responses={200: {"model": m.Webhooks}, **FAULTS})
def list_webhooks(who: ReadingCaller) -> Response:
    """List all targets, oldest first."""
    return answer({"items": [one.as_dict() for one in who.coordinator.webhooks()]})


@router.get("/{webhook_id}", responses={200: {"model": m.Webhook}, **FAULTS})
def get_webhook(who: ReadingCaller, webhook_id: WebhookId) -> Response:
    """Return a target, without its secret."""
    return answer(who.coordinator.webhook(webhook_id))


@router.delete("/{webhook_id}", responses={200: {"model": m.Webhook}, **FAULTS})
def remove_webhook(who: OperatorCaller, webhook_id: WebhookId) -> Response:
    """Remove a target; it is told of nothing more."""
    return answer(who.coordinator.remove_webhook(webhook_id, by=who.name))


@router.post(
    "/{webhook_id}/rotate",
    responses={200: {"model": m.NewWebhook}, **BODY_FAULTS, **documented(404)},
)
def rotate_webhook(who: OperatorCaller, webhook_id: WebhookId, terms: m.Rotation) -> Response:
    """Make another secret, shown this once; both sign for a while."""
    rotated = who.coordinator.rotate_webhook(webhook_id, by=who.name, overlap=terms.overlap)
    return answer(rotated)


@router.post(
    "/{webhook_id}/replay",
    responses={200: {"model": m.Webhook}, **BODY_FAULTS, **documented(404)},
)
def replay_webhook(who: OperatorCaller, webhook_id: WebhookId, terms: m.Replay) -> Response:
    """Tell it again of every event after an id, under the same webhook-ids; enables it."""
    return answer(who.coordinator.replay_webhook(webhook_id, after=terms.after, by=who.name))


@router.get("/{webhook_id}/deliveries", responses={200: {"model": m.Deliveries}, **FAULTS})
def deliveries(
    who: ReadingCaller,
    webhook_id: WebhookId,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="An event_id.")] = None,
) -> Response:
    """List the events that it did not take at once, newest first; `next` goes on as `before`."""
    found = who.coordinator.webhook_deliveries(webhook_id, limit=limit, before=before)
    return page(found, limit, "event_id")
