"""The Python API of webhooks: targets that are told of events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from coordinator.api.arguments import checked
from coordinator.domain.access.destinations import destination
from coordinator.domain.access.webhooks import FailedDelivery, NewWebhook, Webhook
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.events.event import event_types
from coordinator.domain.inputs import id_text, identifier
from coordinator.domain.spans import seconds_of

if TYPE_CHECKING:
    from coordinator.wiring import Wiring

_OVERLAP_SECONDS_MAX: Final = 30 * 86_400


@checked
class WebhookApi(ABC):
    """Methods of ``Coordinator`` for webhooks. `coordinator serve` delivers."""

    @property
    @abstractmethod
    def wiring(self) -> Wiring:
        """Return the coordinator's parts; CoordinatorClosed after it was closed."""

    def add_webhook(
        self,
        url: str,
        *,
        by: str,
        types: Iterable[str] = (),
        agent: str | None = None,
    ) -> NewWebhook:
        """Have a URL told of events from now on; the secret that signs them is told this once.

        ``types``: only these (docs/events.md); ``agent``: only what belongs to this agent. The URL
        must be https and its address public, unless COORDINATOR_WEBHOOK_ALLOW has it.
        """
        w, by = self.wiring, identifier("by", by)
        destination(url, w.webhook_networks)
        if agent is not None and w.policies.current().agent(identifier("agent", agent)) is None:
            raise InvalidRequest(f"{agent} is not an agent of the policy")
        return w.webhooks.add(url, sorted(event_types(types)), agent, by=by, now=w.clock())

    def webhooks(self) -> Sequence[Webhook]:
        """List all webhooks, oldest first, without their secrets."""
        return self.wiring.webhooks.list()

    def webhook(self, webhook_id: str) -> Webhook:
        """Return the webhook; UnknownId when there is none."""
        return self.wiring.webhooks.get(id_text("webhook id", webhook_id))

    def rotate_webhook(self, webhook_id: str, *, by: str, overlap: str | int = "24h") -> NewWebhook:
        """Make another secret; the present one signs too for ``overlap``, at most 30 days.

        A rotation within the overlap of another ends the oldest secret at once.
        """
        w, by = self.wiring, identifier("by", by)
        span = seconds_of("overlap", overlap, most=_OVERLAP_SECONDS_MAX, least=0)
        until = w.clock() + span
        webhook_id = id_text("webhook id", webhook_id)
        return w.webhooks.rotate(webhook_id, previous_until=until, by=by, now=w.clock())

    def replay_webhook(self, webhook_id: str, *, after: int, by: str) -> Webhook:
        """Tell it again of every event after an id (0: all), each with its first webhook-id.

        One that was disabled is enabled.
        """
        w, by = self.wiring, identifier("by", by)
        if type(after) is not int or not 0 <= after < 2**63:
            raise InvalidRequest("after must be the id of an event, or 0")
        webhook_id = id_text("webhook id", webhook_id)
        return w.webhooks.replay(webhook_id, after=after, by=by, now=w.clock())

    def remove_webhook(self, webhook_id: str, *, by: str) -> Webhook:
        """Tell it of nothing more, and forget it; UnknownId when there is none."""
        w, by = self.wiring, identifier("by", by)
        return w.webhooks.remove(id_text("webhook id", webhook_id), by=by, now=w.clock())

    def webhook_deliveries(
        self, webhook_id: str, *, limit: int = 100, before: int | None = None
    ) -> Sequence[FailedDelivery]:
        """List the events that it did not take at once, newest first; ``before`` goes on."""
        w = self.wiring
        webhook_id = id_text("webhook id", webhook_id)
        return w.webhooks.deliveries(webhook_id, limit=limit, before=before)
