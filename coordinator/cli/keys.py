"""coordinator keys: make, list, rotate and revoke the API keys of the service."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from coordinator.cli.command import Yes, command, confirm_person, mode, new_app, opened
from coordinator.cli.command import operator_name as by_name
from coordinator.cli.output import card, emit, listing, next_commands, readable_time, say
from coordinator.domain.access.keys import ApiKey, NewKey
from coordinator.domain.errors import InvalidRequest

app = new_app("keys", "Make, list, rotate and revoke the API keys of agents and people.")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key, key_…")]
By = Annotated[str | None, typer.Option(help="Your name, for the audit log.")]
_ROLES: Final = ("agent", "approver", "operator", "auditor")


@command(app, "create")
def create(
    agent: Annotated[str | None, typer.Option(help="For this agent of the policy.")] = None,
    approver: Annotated[str | None, typer.Option(help="For this approver of the policy.")] = None,
    operator: Annotated[str | None, typer.Option(help="For an operator of this name.")] = None,
    auditor: Annotated[
        str | None, typer.Option(help="For an auditor of this name, who only reads.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help='It ends after this, such as "90d"; else when revoked.')
    ] = None,
    by: By = None,
) -> None:
    """Make an API key and show it this once."""
    given = dict(zip(_ROLES, (agent, approver, operator, auditor), strict=True))
    chosen = [(role, name) for role, name in given.items() if name is not None]
    if len(chosen) != 1:
        raise InvalidRequest("name one of --agent, --approver, --operator and --auditor")
    [(role, name)] = chosen
    with opened(act=False) as coordinator:
        made = coordinator.create_api_key(role, name, by=by_name(by), expires_after=expires)
    _show_once(made)


@command(app, "list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help="Include expired and revoked keys.")
    ] = False,
) -> None:
    """List API keys, oldest first."""
    with opened(act=False) as coordinator:
        now = coordinator.wiring.clock()
        found = [k for k in coordinator.api_keys() if everything or k.status(now) == "valid"]
    listing(
        [key.as_dict() | {"status": key.status(now)} for key in found],
        "key",
        "role",
        "name",
        "status",
        "expires",
        "last used",
        rows=(
            (
                key.id,
                key.role.value,
                key.name,
                key.status(now),
                readable_time(key.expires_at) or "never",
                readable_time(key.last_used_at) or "never",
            )
            for key in found
        ),
        empty="there are no API keys: coordinator keys create --agent NAME",
        wrap=("expires", "last used"),
    )


@command(app, "rotate")
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(help='The old key counts for this time more, such as "24h" or "0s".')
    ] = "24h",
    by: By = None,
) -> None:
    """Make another key for the same; the old one counts for a while more."""
    with opened(act=False) as coordinator:
        made = coordinator.rotate_api_key(key_id, by=by_name(by), overlap=overlap)
    _show_once(made)


@command(app, "revoke")
def revoke(key_id: KeyId, by: By = None, yes: Yes = False) -> None:
    """End a key at once, everywhere."""
    confirm_person(f"Revoke {key_id}? Whoever uses it is refused from then on.", yes=yes)
    with opened(act=False) as coordinator:
        ended = coordinator.revoke_api_key(key_id, by=by_name(by))
    if mode.json:
        emit(ended.as_dict())
    else:
        say(f"{ended.id} of {ended.role.value} {ended.name} is revoked")


def _show_once(made: NewKey) -> None:
    if mode.json:
        emit(made.as_dict())
        return
    _show_key(made.key)
    say(made.token, style="bold")
    say("It is shown this once and stored nowhere: put it where its owner's secrets are.")
    next_commands("coordinator keys list", f"coordinator keys revoke {made.key.id}")


def _show_key(key: ApiKey) -> None:
    rows = [
        ("speaks as", f"{key.role.value} {key.name}"),
        ("expires", readable_time(key.expires_at) or "never"),
        ("made by", key.created_by),
    ]
    card(f"API key {key.id}", None, rows)
