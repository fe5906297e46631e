"""coordinator policy: check the file, see what is in force, apply a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.domain.errors import ConfigurationError
from coordinator.interfaces.cli.command import (
    DryRun,
    command,
    mode,
    new_app,
    opened,
    operator_name,
)
from coordinator.interfaces.cli.exits import ExitCode
from coordinator.interfaces.cli.output import card, emit, heading, next_commands, say, table

if TYPE_CHECKING:
    from coordinator.domain.policy import Policy
    from coordinator.interfaces.python import Coordinator
    from coordinator.ledger.policies import PolicyBook

app = new_app("policy", "Check the policy file, see what is in force, apply a change.")

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Default: COORDINATOR_POLICY_FILE.")
]


@command(app, "check")
def check(file: File = None) -> None:
    """Whether the file is a policy; every fault is told with its line."""
    policy = _read(file)
    if mode.json:
        emit({"ok": True, "hash": policy.hash, "agents": sorted(policy.agents)})
    else:
        say(f"the policy is valid: {summary(policy)}", style="green")


@command(app, "show")
def show() -> None:
    """The policy in force."""
    with opened(act=False) as coordinator, _book(coordinator) as book:
        policy = book.current()
    if mode.json:
        emit({"hash": policy.hash, "policy": policy.document()})
        return
    card("Policy in force", None, [("hash", policy.hash), ("holds", summary(policy))])
    for path, value in flat(policy.document()).items():
        say(f"  {path} = {value}")


@command(app, "diff")
def diff(file: File = None) -> None:
    """What applying the file would change."""
    policy = _read(file)
    with opened(act=False) as coordinator, _book(coordinator) as book:
        changes = changed(_current(book), policy)
    if mode.json:
        emit([{"key": key, "before": old, "after": new} for key, old, new in changes])
    else:
        _show_changes(changes)


@command(app, "apply")
def apply(
    file: File = None,
    by: Annotated[str | None, typer.Option(help="Who changes it; default: this user.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "applied by hand",
    dry_run: DryRun = False,
) -> int:
    """Put the file in force; the decisions of all processes follow it at once."""
    policy = _read(file)
    with opened(act=False) as coordinator, _book(coordinator) as book:
        changes = changed(_current(book), policy)
        applied = False
        if not dry_run:
            applied = book.activate(
                policy,
                treasury=coordinator.wiring.signer.address,
                author=operator_name(by),
                reason=reason,
                now=coordinator.wiring.clock(),
            )
    if mode.json:
        emit(
            {
                "hash": policy.hash,
                "applied": applied,
                "changes": [{"key": k, "before": old, "after": new} for k, old, new in changes],
            }
        )
        return ExitCode.OK
    _show_changes(changes)
    if applied:
        say(f"in force: {policy.hash}", style="green")
    elif dry_run:
        next_commands("coordinator policy apply")
    else:
        say("it is in force already")
    return ExitCode.OK


@contextmanager
def _book(coordinator: Coordinator) -> Iterator[PolicyBook]:
    # Wiring's own would put a changed file in force first.
    from coordinator.ledger.policies import PolicyBook

    coordinator.wiring.operations  # noqa: B018 - refuses a database of another treasury
    yield PolicyBook(coordinator.wiring.database, coordinator.wiring.audit)


def _read(file: Path | None) -> Policy:
    from coordinator.config import environment, load_settings, read_policy

    return read_policy(file or load_settings(environment()).policy_file)


def _current(book: PolicyBook) -> Policy | None:
    try:
        return book.current()
    except ConfigurationError:
        return None


def summary(policy: Policy) -> str:
    """How much the policy holds, in a line."""
    counts = (
        (len(policy.agents), "agents"),
        (len(policy.providers), "providers"),
        (len(policy.categories.named), "categories"),
        (len(policy.approvals.approvers), "approvers"),
    )
    return ", ".join(f"{name}: {count}" for count, name in counts)


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value under its dotted key."""
    found: dict[str, str] = {}
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}.")
        else:
            found[path] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def changed(old: Policy | None, new: Policy) -> list[tuple[str, str | None, str | None]]:
    """(key, value in force, value of the file) where they differ."""
    before = flat(old.document()) if old else {}
    after = flat(new.document())
    keys = sorted({*before, *after})
    return [
        (key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)
    ]


def _show_changes(changes: list[tuple[str, str | None, str | None]]) -> None:
    if not changes:
        say("no difference")
        return
    heading("Changes")
    table(
        "key",
        "in force",
        "file",
        rows=((k, old if old is not None else "–", new or "–") for k, old, new in changes),
        wrap=("in force", "file"),
    )
