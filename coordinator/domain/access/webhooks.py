"""Webhooks: targets that are told of events, their secrets, and when a failed try is repeated."""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from coordinator.domain.shown import Shown
from coordinator.domain.times import rfc3339

#: Seconds from each failed try of an event to the next: 75 hours and 35 minutes in all.
EVENT_DELAYS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: Seconds for which a target is left alone after it failed so often in a row.
TARGET_DELAYS: Final = (5, 30, 120, 300, 900, 1_800, 3_600)


@dataclass(frozen=True, slots=True)
class Webhook(Shown):
    """One target. Times are unix seconds; without ``types`` it gets every type.

    ``agent`` limits it to that agent's events. ``generation`` counts its secrets; the one before
    signs too until ``previous_until`` (exclusive). The events up to ``position`` were handed over
    or are among its deliveries. Since ``disabled_at`` it gets nothing.
    """

    id: str
    url: str
    types: tuple[str, ...]
    agent: str | None
    created_by: str
    created_at: int
    generation: int = 1
    previous_until: int | None = None
    disabled_at: int | None = None
    disabled_why: str | None = None
    position: int = 0
    replays: int = 0
    failures: int = 0
    failing_since: int | None = None
    retry_at: int = 0

    def generations(self, now: int) -> tuple[int, ...]:
        """Return the generations of the secrets that sign at ``now``, the newest first."""
        both = self.previous_until is not None and now < self.previous_until
        return (self.generation, self.generation - 1) if both else (self.generation,)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; times RFC 3339 in UTC."""
        return {
            "webhook_id": self.id,
            "url": self.url,
            "types": list(self.types),
            "agent": self.agent,
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at),
            "previous_secret_until": rfc3339(self.previous_until),
            "status": "disabled" if self.disabled_at is not None else "enabled",
            "disabled_at": rfc3339(self.disabled_at),
            "disabled_reason": self.disabled_why,
            "position": self.position,
            "failing_since": rfc3339(self.failing_since),
        }


@dataclass(frozen=True, slots=True)
class NewWebhook(Shown):
    """A target with the secret that was just made; it is shown this once."""

    webhook: Webhook
    secret: str

    def __repr__(self) -> str:
        return f"NewWebhook({self.webhook!r}, secret=…)"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, the secret in it."""
        return {**self.webhook.as_dict(), "secret": self.secret}


@dataclass(frozen=True, slots=True)
class FailedDelivery(Shown):
    """One event that a target did not take at once; without ``due_at`` it is not tried again."""

    webhook_id: str
    seq: int
    tries: int
    failed_at: int
    due_at: int | None
    delivered_at: int | None
    fault: str | None

    @property
    def status(self) -> str:
        """Return ``delivered``, ``waiting`` for the next try, or ``given_up``."""
        if self.delivered_at is not None:
            return "delivered"
        return "given_up" if self.due_at is None else "waiting"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; times RFC 3339 in UTC."""
        return {
            "event_id": self.seq,
            "status": self.status,
            "tries": self.tries,
            "failed_at": rfc3339(self.failed_at),
            "due_at": rfc3339(self.due_at),
            "delivered_at": rfc3339(self.delivered_at),
            "fault": self.fault,
        }


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """Secrets of targets, derived from the id secret: the database has none of them."""

    id_secret: bytes

    def __repr__(self) -> str:
        return "WebhookSecrets(…)"

    def of(self, webhook_id: str, generation: int) -> str:
        """Return ``whsec_`` and the Base64 of 32 bytes."""
        key = hmac.new(self.id_secret, b"coordinator webhooks", sha256).digest()
        made = hmac.new(key, f"{webhook_id}:{generation}".encode(), sha256).digest()
        return "whsec_" + base64.b64encode(made).decode()


def new_webhook_id() -> str:
    """Return an id that was never used and never will be: secrets are derived from it."""
    return f"whk_{secrets.token_hex(10)}"


def next_try(tries: int, now: int) -> int | None:
    """Return when an event is due again after ``tries`` failed tries; None: never."""
    return now + EVENT_DELAYS[tries - 1] if tries <= len(EVENT_DELAYS) else None


def next_look(failures: int, now: int) -> int:
    """Return when a target that failed so often in a row is tried again."""
    return now + TARGET_DELAYS[min(failures, len(TARGET_DELAYS)) - 1]
