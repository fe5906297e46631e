"""coordinator webhooks: register, list, rotate, replay and remove targets of events."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.command import Yes, command, confirm_person, mode, new_app, opened
from coordinator.cli.command import operator_name as by_name
from coordinator.cli.output import card, emit, listing, next_commands, readable_time, say
from coordinator.domain.access.webhooks import NewWebhook, Webhook

app = new_app("webhooks", "Have programs told of events by HTTP requests; `serve` delivers.")

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="The webhook, whk_…")]
By = Annotated[str | None, typer.Option(help="Your name, for the audit log.")]


@command(app, "add")
def add(
    url: Annotated[str, typer.Argument(help="https://…; it gets every event by POST.")],
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this event, such as purchase.funded; may be repeated."),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only what belongs to this agent.")] = None,
    by: By = None,
) -> None:
    """Register a target and show its secret this once."""
    with opened(act=False) as coordinator:
        made = coordinator.add_webhook(url, by=by_name(by), types=types or (), agent=agent)
    _show_once(made)


@command(app, "list")
def list_() -> None:
    """List webhooks, oldest first."""
    with opened(act=False) as coordinator:
        found = coordinator.webhooks()
    listing(
        [webhook.as_dict() for webhook in found],
        "webhook",
        "url",
        "events",
        "agent",
        "status",
        rows=(
            (
                webhook.id,
                webhook.url,
                ", ".join(webhook.types) or "all",
                webhook.agent or "all",
                _status(webhook),
            )
            for webhook in found
        ),
        empty="there are no webhooks: coordinator webhooks add https://…",
        wrap=("url", "events", "status"),
    )


@command(app, "deliveries")
def deliveries(
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
) -> None:
    """List the events that a webhook did not take at once, newest first."""
    with opened(act=False) as coordinator:
        found = coordinator.webhook_deliveries(webhook_id, limit=limit)
    listing(
        [delivery.as_dict() for delivery in found],
        "event",
        "status",
        "tries",
        "next try",
        "fault",
        rows=(
            (str(d.seq), d.status, str(d.tries), readable_time(d.due_at) or "-", d.fault or "-")
            for d in found
        ),
        empty="it took everything at once",
        wrap=("next try", "fault"),
    )


@command(app, "rotate")
def rotate(
    webhook_id: WebhookId,
    overlap: Annotated[
        str, typer.Option(help='The old secret signs too for this time, such as "24h" or "0s".')
    ] = "24h",
    by: By = None,
) -> None:
    """Make another secret; for a while both sign."""
    with opened(act=False) as coordinator:
        made = coordinator.rotate_webhook(webhook_id, by=by_name(by), overlap=overlap)
    _show_once(made)


@command(app, "replay")
def replay(
    webhook_id: WebhookId,
    after: Annotated[int, typer.Option(min=0, help="The id of the last event to leave out.")],
    by: By = None,
) -> None:
    """Tell it again of every event after one; enables a webhook that was disabled."""
    with opened(act=False) as coordinator:
        found = coordinator.replay_webhook(webhook_id, after=after, by=by_name(by))
    if mode.json:
        emit(found.as_dict())
    else:
        say(f"{found.id} is told again of what came after event {after}")


@command(app, "remove")
def remove(webhook_id: WebhookId, by: By = None, yes: Yes = False) -> None:
    """Tell it of nothing more, and forget it."""
    confirm_person(f"Remove {webhook_id}? It is told of nothing more.", yes=yes)
    with opened(act=False) as coordinator:
        found = coordinator.remove_webhook(webhook_id, by=by_name(by))
    if mode.json:
        emit(found.as_dict())
    else:
        say(f"{found.id} of {found.url} is removed")


def _status(webhook: Webhook) -> str:
    if webhook.disabled_at is not None:
        return f"disabled: {webhook.disabled_why}"
    if webhook.failing_since is not None:
        return f"failing since {readable_time(webhook.failing_since)}"
    return "well"


def _show_once(made: NewWebhook) -> None:
    if mode.json:
        emit(made.as_dict())
        return
    webhook = made.webhook
    rows = [
        ("url", webhook.url),
        ("events", ", ".join(webhook.types) or "all"),
        ("agent", webhook.agent or "all"),
        ("old secret signs until", readable_time(webhook.previous_until) or "-"),
    ]
    card(f"webhook {webhook.id}", None, rows)
    say(made.secret, style="bold")
    say("It is shown this once: the receiver verifies with it (docs/events.md).")
    next_commands("coordinator serve", f"coordinator webhooks deliveries {webhook.id}")
