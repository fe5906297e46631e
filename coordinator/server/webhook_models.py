"""Bodies of requests and answers about webhooks, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from coordinator.domain.events.table import TYPES
from coordinator.server.models import Body, Name, Time

EventType = Annotated[str, Field(max_length=64, examples=["purchase.funded"])]


class Target(Body):
    """A target of events; without `types` it gets all, with `agent` only that agent's."""

    url: Annotated[str, Field(min_length=1, max_length=2000, examples=["https://example.com/in"])]
    types: Annotated[list[EventType], Field(max_length=len(TYPES))] | None = None
    agent: Name | None = None


class Rotation(Body):
    """For how long the present secret signs too."""

    overlap: Annotated[str, Field(pattern=r"^[0-9]{1,8}[smhd]$")] = "24h"


class Replay(Body):
    """The id after which events are told again; 0: from the first."""

    after: Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class Webhook(BaseModel):
    """A target of events; those up to `position` were handed over or are deliveries."""

    webhook_id: str
    url: str
    types: list[str]
    agent: str | None
    created_by: str
    created_at: Time
    previous_secret_until: Time | None
    status: Literal["enabled", "disabled"]
    disabled_at: Time | None
    disabled_reason: str | None
    position: int
    failing_since: Time | None


class NewWebhook(Webhook):
    """A target with its secret, which is shown this once."""

    secret: str


class Webhooks(BaseModel):
    """All targets, oldest first."""

    items: list[Webhook]


class Delivery(BaseModel):
    """One event that a target did not take at once."""

    event_id: int
    status: Literal["delivered", "waiting", "given_up"]
    tries: int
    failed_at: Time
    due_at: Time | None
    delivered_at: Time | None
    fault: str | None


class Deliveries(BaseModel):
    """A page, newest first; `next` goes on as `before`."""

    items: list[Delivery]
    next: int | None
