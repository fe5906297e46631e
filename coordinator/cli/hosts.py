"""coordinator hosts: the hosts whose rows count in the database."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.command import Yes, command, confirm_person, mode, new_app, opened
from coordinator.cli.command import operator_name as by_name
from coordinator.cli.output import emit, listing, readable_time, say, table
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.hosts import parse_host_name, parse_public_key

app = new_app("hosts", "Certify, list and revoke the hosts that may write to the database.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.")]
By = Annotated[str | None, typer.Option(help="Your name, for the audit log.")]


@command(app, "key")
def key() -> None:
    """Print this host's name and public key; the key is made where there is none."""
    with opened(act=False) as coordinator:
        own = coordinator.opened.own_host
    if mode.json:
        emit({"name": own.name, "public_key": own.key.public_key})
        return
    say(f"{own.name} {own.key.public_key}")


@command(app, "add")
def add(
    name: Name,
    public_key: Annotated[
        str, typer.Argument(metavar="PUBLIC_KEY", help="What `coordinator hosts key` prints there.")
    ],
    by: By = None,
) -> None:
    """Certify a host to decide, with the treasury's key."""
    try:
        name, public_key = parse_host_name(name), parse_public_key(public_key)
    except ValueError as fault:
        raise InvalidRequest(str(fault)) from None
    with opened(act=False) as coordinator:
        w = coordinator.claimed
        host = w.hosts.add(name, public_key, by=by_name(by), now=w.clock())
    if mode.json:
        emit(host.as_dict())
    else:
        say(f"{host.id} may decide")


@command(app, "list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Include hosts that were revoked.")
    ] = False,
) -> None:
    """List the hosts that may write, oldest first."""
    with opened(act=False) as coordinator:
        found = [h for h in coordinator.opened.hosts.list() if everything or h.status != "revoked"]
    listing(
        [host.as_dict() for host in found],
        "host",
        "role",
        "status",
        "certified",
        "public key",
        rows=(
            (host.id, host.role, host.status, readable_time(host.certified_at), host.public_key)
            for host in found
        ),
        empty="no host has written yet",
        wrap=("certified", "public key"),
    )


@command(app, "revoke")
def revoke(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    by: By = None,
    yes: Yes = False,
) -> None:
    """Let nothing count that a host writes from now on, and fund nothing that it decided."""
    from coordinator.domain.inputs import free_text

    reason = free_text("reason", reason, 2000)
    confirm_person(
        f"Revoke {name}? Purchases that it decided and nothing was signed for are not funded.",
        yes=yes,
    )
    with opened(act=False) as coordinator:
        w = coordinator.claimed
        host = w.hosts.revoke(name, reason=reason, by=by_name(by), now=w.clock())
        written = w.hosts.written(host.id)
    if mode.json:
        emit(host.as_dict() | {"written": [{"event": e, "rows": n} for e, n in written.items()]})
        return
    say(f"{host.id} is revoked; it had written:")
    table("event", "rows", rows=((event, str(count)) for event, count in written.items()))
    say("Undo what you do not know: policies, lifted pauses, grants, API keys.")
